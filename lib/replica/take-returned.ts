import type { ReplicatedVm } from "../model/disk.js";
import { failpoint } from "../model/failpoint.js";
import { type Lineage, presentEntry } from "../model/lineage.js";
import type { ReturnedDisks } from "../model/replica-endpoint.js";
import { adoptDisks } from "./adopt-disks.js";
import { createVm } from "./create-vm.js";
import type { FormerPrimary } from "./former-primary.js";
import { loadVm } from "./load-vm.js";
import type { ReplicaTools } from "./replica-tools.js";
import { VmPaths } from "./store-paths.js";
import type { VmReplica } from "./vm-replica.js";
import { isReplicated } from "./vm-summary.js";

export interface TakeReturnedParts {
  readonly tools: ReplicaTools;
  readonly root: string;
  readonly vms: Map<string, VmReplica>;
  readonly former: FormerPrimary;
}

/**
 * The store's end of a reversal: the disks are this store's before the host forgets that
 * it was their primary. What an interrupted one has left is gone on with; of what it
 * found unchanged nothing is known any more then.
 */
export async function takeReturned(
  parts: TakeReturnedParts,
  vm: ReplicatedVm,
  lineage: Lineage,
): Promise<ReturnedDisks> {
  const { tools, root, vms, former } = parts;
  const { vmId } = vm;
  const known = replicatedIn(vms, vmId);
  if (known !== undefined) known.requireGeneration(presentEntry(lineage).generation);
  let isUnchanged = false;
  if (known === undefined || known.chain.head() === null) {
    const released = await former.release(vmId, lineage);
    failpoint("returned.released");
    const paths = new VmPaths(root, vmId);
    const replica = known ?? (await createVm(tools, paths, vm, lineage));
    await adoptDisks(tools, replica, released);
    vms.set(vmId, await loadVm(tools, paths, vmId));
    isUnchanged = released.isUnchanged && known === undefined;
  }
  failpoint("returned.adopted");
  await former.forget(vmId);
  const taken = vms.get(vmId);
  if (taken === undefined) throw new Error("a VM that was taken is not there");
  return { status: await taken.status(), isUnchanged };
}

/** One that went on from here for good is a VM like any other when it comes back. */
function replicatedIn(vms: ReadonlyMap<string, VmReplica>, vmId: string): VmReplica | undefined {
  const known = vms.get(vmId);
  return known !== undefined && isReplicated(known) ? known : undefined;
}
