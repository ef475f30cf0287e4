/**
 * What counts from the first write on for whoever becomes the replica of a VM that was
 * failed over to this host: where its recovery point is behind the newest one, which is
 * what the host that had the VM before holds.
 */
import type { ExtentList } from "../model/block-hashes.js";
import type { LineageEntry } from "../model/lineage.js";
import { subtract } from "../model/extent-list.js";
import { changesAfter } from "../replica/changes-after.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import { rethrown } from "../tracking/native-call.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";

/** Before anybody writes to the disk; may be repeated until somebody does. */
export async function addPromotedTarget(
  disk: TrackedDisk,
  targetId: string,
  store: ReplicaStore,
  vmId: string,
  { forkPointId }: LineageEntry,
): Promise<void> {
  const changed = await store
    .withVm(vmId, (tools, replica) => changesAfter(tools, replica, forkPointId ?? "", disk.diskId))
    .catch(() => null);
  if (changed?.length === 0) return disk.addTarget(targetId, "nothing");
  await disk.addTarget(targetId, "suspect");
  if (changed !== null) await markOnly(disk, targetId, changed);
}

/** Of a disk that is suspect as a whole: what is interrupted leaves more that is, never less. */
async function markOnly(disk: TrackedDisk, targetId: string, changed: ExtentList): Promise<void> {
  const { native } = disk;
  const slot = disk.slotOf(targetId);
  const unchanged = subtract([0, disk.sizeBytes], changed);
  const count = await rethrown(() => native.beginComparison(slot));
  await rethrown(() =>
    native.settleComparison(slot, count, Float64Array.from(unchanged), Float64Array.from(changed)),
  );
}
