import { allSuspect } from "../model/disk-marks.js";
import { failpoint } from "../model/failpoint.js";
import type { RecoveryPoint, ReturnedDisks } from "../model/replica-endpoint.js";
import { headPatch } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";

/**
 * Reverse replication begins: the host that had the VM before becomes its replica. Here is
 * marked what the VM wrote since it was failed over, and what it went back behind; there,
 * what only the other host has. Null when that was settled before.
 */
export async function takeReturned(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<RecoveryPoint | null> {
  const { endpoint, vm, journal } = context;
  const { firstCopy, headPointId } = journal.record;
  if (firstCopy?.by !== "return" || headPointId !== null) return null;
  const { lineage, formerHeadId } = firstCopy;
  const returned = await endpoint.takeReturned({ vm, lineage, formerHeadId }, signal);
  const { head } = returned.status;
  if (head === null) return null;
  failpoint("returned.answered");
  await settleMarks(context, returned);
  await journal.update((record) => ({ ...headPatch(record, head), firstCopy: undefined }));
  return head;
}

/** Whatever is not known is compared; durable before the head is noted, and right when repeated. */
async function settleMarks(
  { tracker, targetId }: RelationshipContext,
  { isUnchanged, marks }: ReturnedDisks,
): Promise<void> {
  if (marks === undefined && isUnchanged) return;
  if (marks === undefined || !(await tracker.hasTarget(targetId))) {
    await tracker.removeTarget(targetId);
    await tracker.addTarget(targetId, "suspect");
    return;
  }
  const ofAll = tracker.disks.map(
    ({ diskId, sizeBytes }) =>
      marks.find((one) => one.diskId === diskId) ?? allSuspect(diskId, sizeBytes),
  );
  await tracker.addMarks(targetId, ofAll);
}
