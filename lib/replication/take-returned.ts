import { failpoint } from "../model/failpoint.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import { headPatch } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";

/**
 * Reverse replication begins: the host that had the VM before becomes its replica. What
 * differs from its disks is marked since the VM was failed over; where they are not what
 * they were at that point, all of it is suspect, and is compared. Null when that was
 * settled before.
 */
export async function takeReturned(
  { endpoint, vm, tracker, targetId, journal }: RelationshipContext,
  signal: AbortSignal,
): Promise<RecoveryPoint | null> {
  const { firstCopy, headPointId } = journal.record;
  if (firstCopy?.by !== "return" || headPointId !== null) return null;
  const { status, isUnchanged } = await endpoint.takeReturned(vm, firstCopy.lineage, signal);
  if (status.head === null) return null;
  failpoint("returned.answered");
  if (!isUnchanged) {
    await tracker.removeTarget(targetId);
    await tracker.addTarget(targetId, "suspect");
  }
  const { head } = status;
  await journal.update((record) => ({ ...headPatch(record, head), firstCopy: undefined }));
  return head;
}
