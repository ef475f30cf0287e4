import type { Succession } from "../model/lineage.js";
import { succeed } from "../model/lineage.js";
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import type { VmReplica } from "./vm-replica.js";

/**
 * The VM's next generation, under the lock that commits take: what arrives by the one
 * before is refused from here on, and what had arrived of it is dropped. Durable when it
 * resolves, and the same when it is repeated. FENCED when it does not follow the present
 * one; PARENT_MISMATCH when it begins from a point that is not there, or, as a planned
 * failover has to, not from the head.
 */
export async function succeedVm(
  replica: VmReplica,
  succession: Succession,
  isPromotedHere: boolean,
): Promise<void> {
  const { document } = replica;
  const lineage = succeed(document.lineage, succession);
  if (lineage === null) throw replica.fenced(succession.from);
  if (lineage === document.lineage) return;
  requireFork(replica, succession);
  const { generation } = succession.to;
  failpoint("succession");
  await replica.become({ ...document, generation, lineage, isPromotedHere });
  failpoint("succeeded");
  await replica.dropIncoming();
}

function requireFork({ chain, document }: VmReplica, { to }: Succession): void {
  const { forkPointId, cause } = to;
  const isThere = forkPointId !== null && chain.find(forkPointId) !== null;
  const isHead = chain.damage === null && chain.head()?.point.pointId === forkPointId;
  if (cause === "planned-failover" ? isHead : isThere || forkPointId === null) return;
  const what = cause === "planned-failover" ? "its newest" : "one of its";
  throw new TidemarkError(
    "PARENT_MISMATCH",
    `Cannot go on with VM ${document.vm.name} from recovery point ${forkPointId ?? "none"}: because it is not ${what} recovery points.`,
    { hint: "`tidemark vm points VM` lists them." },
  );
}
