/**
 * Brings what is pending into a staging session at the replica without freezing
 * anything, pass by pass, until the rest is small enough for one consistent
 * checkpoint. Each pass that the replica acknowledged is kept: an interruption
 * costs at most the pass that was under way.
 */
import { randomUUID } from "node:crypto";
import { failpoint } from "../model/failpoint.js";
import type { TargetChanges, TargetProgress } from "../model/vm-tracker.js";
import { addDiskBytes, changedByDisk, type DiskBytes } from "./changed-by-disk.js";
import { type DeliveredDelta, deliverDelta } from "./deliver-delta.js";
import { deliverOrGiveBack } from "./point-cycle.js";
import { forgetStaging } from "./reconcile.js";
import { giveBack } from "./give-back.js";
import type { RelationshipContext } from "./relationship-context.js";
import { asDeltaError, backOff, isRefusal } from "./retry.js";

export interface DrainTotals {
  /** Content that the passes took. */
  readonly changedBytes: number;
  readonly diskChangedBytes: DiskBytes;
  /** What travelled of it, compressed. */
  readonly sentBytes: number;
}

export const NOTHING_DRAINED: DrainTotals = { changedBytes: 0, diskChangedBytes: {}, sentBytes: 0 };

function addTotals(sum: DrainTotals, pass: DrainTotals): DrainTotals {
  return {
    changedBytes: sum.changedBytes + pass.changedBytes,
    diskChangedBytes: addDiskBytes(sum.diskChangedBytes, pass.diskChangedBytes),
    sentBytes: sum.sentBytes + pass.sentBytes,
  };
}

/** The least share of a pass that what is left has to shrink by; halved after each broken capture. */
const WORTHWHILE_GAIN = 0.1;

export async function drainToStaging(
  context: RelationshipContext,
  brokenCaptures: number,
  signal: AbortSignal,
): Promise<DrainTotals> {
  await ensureSession(context, signal);
  const { tracker, targetId, limits } = context;
  let totals = NOTHING_DRAINED;
  let before = await tracker.progress(targetId);
  const worthwhileGain = WORTHWHILE_GAIN / 2 ** brokenCaptures;
  let passBytes = limits.passBytes;
  for (let stalled = 0; stalled < limits.stalledPasses; ) {
    const pass = await runPass(context, before, passBytes, signal);
    totals = addTotals(totals, pass);
    const after = await tracker.progress(targetId);
    context.onStagingProgress(after.stagedBytes, totalOf(after));
    if (after.pendingBytes < limits.closingBytes) break;
    const gainedBytes = before.pendingBytes - after.pendingBytes;
    if (gainedBytes >= pass.changedBytes * worthwhileGain && pass.changedBytes > 0) {
      stalled = 0;
    } else {
      // The guest writes about as fast as the line takes. A shorter pass leaves it less
      // time, so that less is left for the capture, down to what the two rates allow.
      stalled += 1;
      passBytes = Math.max(limits.closingBytes, passBytes / 2);
    }
    before = after;
  }
  return totals;
}

export function totalOf(progress: TargetProgress): number {
  return progress.pendingBytes + progress.inFlightBytes + progress.stagedBytes;
}

async function ensureSession(context: RelationshipContext, signal: AbortSignal): Promise<void> {
  const { endpoint, vm, journal } = context;
  if (journal.record.stagingSessionId !== null) return;
  await forgetStaging(context);
  const stagingSessionId = await endpoint.openStaging(vm.vmId, journal.record.generation, signal);
  await journal.update({ stagingSessionId });
}

async function runPass(
  context: RelationshipContext,
  before: TargetProgress,
  limitBytes: number,
  signal: AbortSignal,
): Promise<DrainTotals> {
  const { tracker, targetId, timeBox, journal } = context;
  const segmentBytes = context.segmentBytes();
  const changes = await timeBox.take((drainLimitMs) =>
    tracker.drain(targetId, { segmentBytes, limitBytes, drainLimitMs, signal }),
  );
  if (changes.segments.length === 0) {
    await giveBack(context, changes);
    return NOTHING_DRAINED;
  }
  const { headPointId: parentPointId, stagingSessionId } = journal.record;
  const deltaId = randomUUID();
  const draft = { deltaId, kind: "staging", parentPointId, stagingSessionId } as const;
  const { sentBytes } = await deliverOrGiveBack(context, changes, deltaId, signal, async () => {
    const onSegment = progressOf(context, before);
    const delta = await deliverDelta(context, changes, draft, signal, onSegment);
    await commitPass(context, delta, signal);
    return delta;
  });
  failpoint("clear");
  await stageOrGiveBack(context, changes);
  const diskChangedBytes = changedByDisk(context.vm.disks, changes.segments);
  return { changedBytes: changes.dirtyBytes, diskChangedBytes, sentBytes };
}

/** Not in doubt when its answer is lost: the bits return to pending and travel again. */
async function commitPass(
  context: RelationshipContext,
  { header, digest }: DeliveredDelta,
  signal: AbortSignal,
): Promise<void> {
  const { vmId, deltaId, attempt, generation } = header;
  const request = { vmId, deltaId, attempt, generation, digest };
  for (let failures = 1; ; failures += 1) {
    try {
      await context.endpoint.commit(request, signal);
      return;
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asDeltaError(thrown);
      if (isRefusal(error) || failures >= context.limits.commitAttempts) throw error;
      context.onRetry(error);
      await backOff(context, failures, signal);
    }
  }
}

async function stageOrGiveBack(
  context: RelationshipContext,
  changes: TargetChanges,
): Promise<void> {
  try {
    await changes.stage();
  } catch (thrown) {
    await giveBack(context, changes);
    throw thrown;
  }
}

function progressOf(context: RelationshipContext, before: TargetProgress) {
  let arrivedBytes = before.stagedBytes;
  const totalBytes = totalOf(before);
  return (receipt: { readonly dataBytes: number; readonly zeroBytes: number }) => {
    arrivedBytes = Math.min(totalBytes, arrivedBytes + receipt.dataBytes + receipt.zeroBytes);
    context.onStagingProgress(arrivedBytes, totalBytes);
  };
}
