/**
 * The commit of a delivered point: noted as in doubt, asked for, asked about,
 * and only then cleared. In-flight bits leave the tracker after the replica's
 * answer names the point; in every other case they return to pending first,
 * which is always safe, and the note stays until the doubt is settled.
 */
import { cutDisksOf } from "../model/cut-disks.js";
import type { DeltaHeader } from "../model/delta.js";
import { failpoint } from "../model/failpoint.js";
import { TidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import type { DeliveredDelta } from "./deliver-delta.js";
import { askFinally, headPatch, judgeHead } from "./reconcile.js";
import { giveBack } from "./give-back.js";
import type { RelationshipContext } from "./relationship-context.js";
import { asDeltaError, backOff, isRefusal } from "./retry.js";

export async function commitPoint(
  context: RelationshipContext,
  changes: TargetChanges,
  delta: DeliveredDelta,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  const { journal } = context;
  const { deltaId, attempt } = delta.header;
  const disks = cutDisksOf(delta.header);
  let point: RecoveryPoint;
  try {
    await journal.update({ inDoubt: { deltaId, attempt, digest: delta.digest, disks } });
    failpoint("in-doubt");
    point = await askUntilKnown(context, delta, signal);
  } catch (thrown) {
    await giveBack(context, changes);
    throw thrown;
  }
  failpoint("clear");
  await changes.commit(point.pointId);
  await journal.update(headPatch(journal.record, point, disks));
  return point;
}

/** Resolves when the replica says that the delta is its head; what else it throws, the note tells. */
async function askUntilKnown(
  context: RelationshipContext,
  delta: DeliveredDelta,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await askForCommit(context, delta, expectedPointIds(delta.header), signal);
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asDeltaError(thrown);
      const head = await askForHead(context, signal);
      if (head !== "unknown" && head !== "unchanged") return head;
      const lastTry = attempt >= context.limits.commitAttempts;
      if (head === "unchanged" && (lastTry || isRefusal(error))) {
        return await headOrThrow(context, error, signal);
      }
      if (lastTry) throw error;
      context.onRetry(error);
      await backOff(context, attempt, signal);
    }
  }
}

/**
 * A replica of the version before sees nothing new in an empty delta of which only the disks
 * that are left out are others: its head stands for it.
 */
function expectedPointIds(header: DeltaHeader): readonly (string | null)[] {
  const { deltaId, parentPointId, segmentCount, stagingSessionId } = header;
  const isEmpty = segmentCount === 0 && stagingSessionId === null && parentPointId !== null;
  return isEmpty ? [deltaId, parentPointId] : [deltaId];
}

/** The last question before the delta is given up. */
async function headOrThrow(
  context: RelationshipContext,
  error: TidemarkError,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  const { verdict, status } = await askFinally(context, signal);
  if (verdict === "committed" && status.head !== null) return status.head;
  await context.journal.update({ inDoubt: null });
  throw error;
}

/** The answer must name the point that is expected: bits are cleared on its word. */
export async function askForCommit(
  context: RelationshipContext,
  { header, digest }: DeliveredDelta,
  expectedPointIds: readonly (string | null)[],
  signal: AbortSignal,
  unannounced?: DeltaHeader,
): Promise<RecoveryPoint> {
  const { vmId, deltaId, attempt, generation } = header;
  const request = { vmId, deltaId, attempt, generation, digest };
  const point = await context.endpoint.commit(
    unannounced === undefined ? request : { ...request, header: unannounced },
    signal,
  );
  if (point !== null && expectedPointIds.includes(point.pointId)) return point;
  throw new TidemarkError("CORRUPT", "Cannot take the commit: because its answer is of another.");
}

async function askForHead(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<RecoveryPoint | "unchanged" | "unknown"> {
  const { endpoint, vm, journal } = context;
  const status = await endpoint.status(vm.vmId, signal).catch(() => null);
  if (status === null) return "unknown";
  const verdict = judgeHead(journal.record, status);
  return verdict === "committed" && status.head !== null ? status.head : "unchanged";
}
