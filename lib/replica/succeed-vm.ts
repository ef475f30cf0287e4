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
  if (succession.to.cause === "taken-over") requireReplica(replica);
  requireFork(replica, succession);
  const { generation } = succession.to;
  failpoint("succession");
  await replica.become({ ...document, generation, lineage, isPromotedHere });
  failpoint("succeeded");
  await replica.dropIncoming();
}

/** Another primary may have the replica, and not the VM. */
function requireReplica({ document }: VmReplica): void {
  if (!document.isPromotedHere && document.isGivenAway !== true) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot take the replica of VM ${document.vm.name} over: because the VM was failed over to its host.`,
    { hint: "Decide which host is to have the VM, and cancel the other's failover." },
  );
}

function requireFork({ chain, document }: VmReplica, { to }: Succession): void {
  const { forkPointId, cause } = to;
  const isThere = forkPointId !== null && chain.find(forkPointId) !== null;
  const headId = chain.head()?.point.pointId ?? null;
  const mustBeHead = cause === "planned-failover" || cause === "taken-over";
  if (
    mustBeHead ? chain.damage === null && headId === forkPointId : isThere || forkPointId === null
  )
    return;
  const what = mustBeHead ? "its newest" : "one of its";
  throw new TidemarkError(
    "PARENT_MISMATCH",
    `Cannot go on with VM ${document.vm.name} from recovery point ${forkPointId ?? "none"}: because it is not ${what} recovery points.`,
    { hint: "`tidemark vm points VM` lists them." },
  );
}
