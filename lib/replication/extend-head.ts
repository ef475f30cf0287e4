/**
 * A cycle without changes: one request, which says that the head was still valid at the cut.
 *
 * Needs no in-doubt note: whether the replica took it or not, its head is the same point, no
 * bit depends on it, and what it says stays true however late it arrives.
 */
import { areSameCutDisks, cutDisksOf } from "../model/cut-disks.js";
import { deltaDigest } from "../model/delta-digest.js";
import { toTidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import { askForCommit } from "./commit-point.js";
import { type DeliveredDelta, disksOf, newHeader, requireUnbroken } from "./deliver-delta.js";
import { giveBack } from "./give-back.js";
import { headPatch } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";
import { backOff } from "./retry.js";

/**
 * Of disks that came, went or have another size a new point is made, changed or not; and where
 * it is not noted which ones the head has, that they are the same is for the replica to say.
 */
export function standsForHead(context: RelationshipContext, changes: TargetChanges): boolean {
  const { headPointId, headDisks, stagingSessionId } = context.journal.record;
  const isEmpty = changes.segments.length === 0 && stagingSessionId === null;
  if (!isEmpty || headPointId === null || headDisks === undefined) return false;
  return areSameCutDisks(headDisks, cutDisksOf(disksOf(context)));
}

export async function extendHead(
  context: RelationshipContext,
  changes: TargetChanges,
  deltaId: string,
  signal: AbortSignal,
): Promise<readonly [DeliveredDelta, RecoveryPoint]> {
  const { journal } = context;
  const parentPointId = journal.record.headPointId;
  const draft = { deltaId, kind: "point", parentPointId, stagingSessionId: null } as const;
  const header = newHeader(context, changes, draft);
  const delta = { header, digest: deltaDigest([]), sentBytes: 0, unchangedBytes: 0 };
  try {
    requireUnbroken(changes);
  } finally {
    await giveBack(context, changes);
  }
  const point = await askUntilTaken(context, delta, signal);
  if (point.pointId === deltaId) {
    await journal.update(headPatch(journal.record, point, cutDisksOf(header)));
  }
  return [delta, point];
}

/** Nothing is held meanwhile, and asking again does no harm. */
async function askUntilTaken(
  context: RelationshipContext,
  delta: DeliveredDelta,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  const { deltaId, parentPointId } = delta.header;
  for (let failures = 1; ; failures += 1) {
    try {
      return await askForCommit(context, delta, [parentPointId, deltaId], signal, delta.header);
    } catch (thrown) {
      signal.throwIfAborted();
      const error = toTidemarkError(thrown);
      if (!error.retryable || failures >= context.limits.deliveryFailures) throw error;
      context.onRetry(error);
      await backOff(context, failures, signal);
    }
  }
}
