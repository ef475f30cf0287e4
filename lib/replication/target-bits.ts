/** How a target gets its bits: at first, and when they are lost. */
import { totalOf } from "./drain-to-staging.js";
import type { RelationshipContext } from "./relationship-context.js";

/**
 * The target's first bits. Never again after it was noted: a target that has
 * lost its bits since is addLostTarget()'s.
 */
export async function markAllocatedOnce(context: RelationshipContext): Promise<void> {
  const { tracker, targetId, journal } = context;
  if (journal.record.allocationMarked) return;
  await tracker.addTarget(targetId);
  await tracker.markAllocated(targetId);
  await journal.update({ allocationMarked: true });
  const progress = await tracker.progress(targetId);
  context.onStagingProgress(0, totalOf(progress));
}

/**
 * A disk whose bitmap is gone (it was damaged and set aside, say): what the target
 * lacks of it is not known, so everything is suspect. What is staged is not known
 * either any more, and would hide the head that is compared with: the session goes
 * first, while the missing target still tells that it must; reconcile() then returns
 * the other disks' staged bits to pending.
 */
export async function addLostTarget(context: RelationshipContext): Promise<void> {
  const { tracker, targetId, journal } = context;
  if (await tracker.hasTarget(targetId)) return;
  if (journal.record.stagingSessionId !== null) await journal.update({ stagingSessionId: null });
  await tracker.addTarget(targetId, "suspect");
}
