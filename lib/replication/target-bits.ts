/** How a target gets its bits: at first, when a disk comes, and when they are lost. */
import { totalOf } from "./drain-to-staging.js";
import type { RelationshipContext } from "./relationship-context.js";

/** Afterwards each of the VM's disks has the target, marked with all that it lacks. */
export async function settleTargets(context: RelationshipContext): Promise<void> {
  await markAllocatedOnce(context);
  await noteDepartures(context);
  await markNewDisks(context);
  await addLostTarget(context);
}

/**
 * The target's first bits. Never again after it was noted: a target that has
 * lost its bits since is addLostTarget()'s.
 */
async function markAllocatedOnce(context: RelationshipContext): Promise<void> {
  const { tracker, targetId, journal } = context;
  if (journal.record.allocationMarked) return;
  const isSeeded = journal.record.firstCopy?.by === "seed";
  await tracker.addTarget(targetId, isSeeded ? "suspect" : "nothing");
  if (!isSeeded) await tracker.markAllocated(targetId);
  await journal.update({ allocationMarked: true, markedDiskIds: idsOf(context) });
  const progress = await tracker.progress(targetId);
  context.onStagingProgress(0, totalOf(progress));
}

/** Also notes which disks there are where an earlier version did not: they are all marked. */
export async function noteDepartures(context: RelationshipContext): Promise<void> {
  const { journal } = context;
  const { record } = journal;
  if (!record.allocationMarked) return;
  const present = idsOf(context);
  const marked = record.markedDiskIds ?? present;
  const left = marked.filter((diskId) => !present.includes(diskId));
  if (left.length === 0 && record.markedDiskIds !== undefined) return;
  await journal.update({
    markedDiskIds: marked.filter((diskId) => present.includes(diskId)),
    departedDiskIds: [...new Set([...(record.departedDiskIds ?? []), ...left])],
  });
}

/**
 * A disk that is new to the replica travels as far as it is not known to be zero. One that was
 * here before may still be in the replica's head, or in the staging session, which would hide
 * the head that it is compared with: the session goes first.
 */
async function markNewDisks(context: RelationshipContext): Promise<void> {
  const { tracker, targetId, journal } = context;
  const { markedDiskIds = [], departedDiskIds = [], isHeadForeign } = journal.record;
  const added = idsOf(context).filter((diskId) => !markedDiskIds.includes(diskId));
  if (added.length === 0) return;
  const isBack = (diskId: string) => isHeadForeign === true || departedDiskIds.includes(diskId);
  const back = added.filter(isBack);
  if (back.length > 0) await dropSession(context);
  // What an interrupted addition has left, or an earlier time of the disk here.
  await tracker.removeTarget(targetId, added);
  const fresh = added.filter((diskId) => !back.includes(diskId));
  await tracker.addTarget(targetId, "suspect", back);
  await tracker.addTarget(targetId, "allocated", fresh);
  await journal.update({ markedDiskIds: idsOf(context) });
}

/**
 * A disk whose bitmap is gone (it was damaged and set aside, say): what the target
 * lacks of it is not known, so everything is suspect. What is staged is not known
 * either any more, and would hide the head that is compared with: the session goes
 * first, while the missing target still tells that it must; reconcile() then returns
 * the other disks' staged bits to pending.
 */
async function addLostTarget(context: RelationshipContext): Promise<void> {
  const { tracker, targetId } = context;
  if (await tracker.hasTarget(targetId)) return;
  await dropSession(context);
  await tracker.addTarget(targetId, "suspect");
}

async function dropSession({ journal }: RelationshipContext): Promise<void> {
  if (journal.record.stagingSessionId !== null) await journal.update({ stagingSessionId: null });
}

function idsOf({ tracker }: RelationshipContext): readonly string[] {
  return tracker.disks.map(({ diskId }) => diskId);
}
