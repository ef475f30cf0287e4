/**
 * The ways of a first copy other than over the network: on a medium that somebody
 * carries to the replica, or from an existing disk there, of which only what differs
 * travels.
 *
 * What is on the medium is staged here, as if the medium were the replica; its point
 * is noted as in doubt until the replica's head is that point. So nothing that has
 * changed since the cut loses its mark, whatever becomes of the medium.
 */
import { randomUUID } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import type { WritableMedium } from "../model/initial-media.js";
import type { FirstCopy, RelationshipRecord } from "../model/relationship.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import { deliverDelta } from "./deliver-delta.js";
import { drainToStaging } from "./drain-to-staging.js";
import { giveBack } from "./give-back.js";
import { deliverOrGiveBack } from "./point-cycle.js";
import { forgetStaging, headPatch, judgeHead } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";
import { settleTargets } from "./target-bits.js";

/** Files of a medium are fewer and larger than a network's requests. */
const SEGMENT_BYTES = 64 * 1024 * 1024;
const PARALLEL_SEGMENTS = 2;

export function noMedia(): Promise<WritableMedium> {
  return Promise.reject(
    new TidemarkError("UNSUPPORTED", "Cannot write a medium: because this host has no way to."),
  );
}

/** Null while the medium is on its way; the replica's head once that is the medium's point. */
export async function bringByMedium(
  context: RelationshipContext,
  openMedium: (record: RelationshipRecord) => Promise<WritableMedium>,
  brokenCaptures: number,
  signal: AbortSignal,
): Promise<RecoveryPoint | null> {
  const { journal } = context;
  await journal.refresh();
  await settleTargets(context);
  const { firstCopy } = journal.record;
  if (firstCopy?.by === "medium" && firstCopy.stage === "writing") {
    await using medium = await openMedium(journal.record);
    await writeMedium({ ...context, endpoint: medium }, brokenCaptures, signal);
  }
  return askForImport(context, signal);
}

/** Settles whether the medium was taken in. */
async function askForImport(
  context: RelationshipContext,
  signal?: AbortSignal,
): Promise<RecoveryPoint | null> {
  const { endpoint, vm, tracker, targetId, journal } = context;
  const status = await endpoint.enable(vm, journal.record.generation, signal);
  if (judgeHead(journal.record, status) === "unchanged" || status.head === null) return null;
  // The staged bits are the medium's: its point is what they were staged for.
  await tracker.commitInFlight(targetId);
  await journal.update({ ...headPatch(journal.record, status.head), firstCopy: undefined });
  return status.head;
}

/** What another way has brought so far returns to pending, unless the replica has it by now. */
export async function changeFirstCopy(
  context: RelationshipContext,
  firstCopy: FirstCopy | null,
): Promise<void> {
  const { journal } = context;
  if (journal.record.headPointId !== null) throw copiedBefore();
  if (journal.record.inDoubt !== null && (await askForImport(context)) !== null)
    throw copiedBefore();
  await settleTargets(context);
  await forgetStaging(context);
  if (journal.record.firstCopy?.by === "seed") await suspectAll(context);
  await journal.update({ inDoubt: null, firstCopy: firstCopy ?? undefined });
}

export function copiedBefore(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot change how the first copy is made: because the replica has a recovery point.",
  );
}

async function writeMedium(
  context: RelationshipContext,
  brokenCaptures: number,
  signal: AbortSignal,
): Promise<void> {
  const { endpoint, vm, journal } = context;
  const status = await endpoint.enable(vm, journal.record.generation, signal);
  const { inDoubt, stagingSessionId } = journal.record;
  if (status.head !== null) {
    if (status.head.pointId !== inDoubt?.deltaId) throw finishedBefore();
    return noteWritten(context);
  }
  if (inDoubt !== null) await journal.update({ inDoubt: null });
  const isLost = stagingSessionId !== null && stagingSessionId !== status.stagingSessionId;
  if (isLost) await forgetStaging(context);
  const limits = {
    ...context.limits,
    parallelSegments: PARALLEL_SEGMENTS,
  };
  const toMedium = { ...context, limits, segmentBytes: () => SEGMENT_BYTES };
  await drainToStaging(toMedium, brokenCaptures, signal);
  await closeMedium(toMedium, signal);
}

/** The cut that makes one instant of it. The note comes first: from then on it may be imported. */
async function closeMedium(context: RelationshipContext, signal: AbortSignal): Promise<void> {
  const { tracker, targetId, timeBox, journal, endpoint } = context;
  const segmentBytes = context.segmentBytes();
  const changes = await timeBox.take((drainLimitMs) =>
    tracker.checkpoint(targetId, { segmentBytes, drainLimitMs, signal }),
  );
  const deltaId = randomUUID();
  const { stagingSessionId } = journal.record;
  const draft = { deltaId, kind: "point", parentPointId: null, stagingSessionId } as const;
  const { header, digest } = await deliverOrGiveBack(context, changes, deltaId, signal, () =>
    deliverDelta(context, changes, draft, signal),
  );
  const { vmId, attempt, generation } = header;
  try {
    await journal.update({ inDoubt: { deltaId, attempt, digest } });
    await endpoint.commit({ vmId, deltaId, attempt, generation, digest }, signal);
    await changes.stage();
  } catch (thrown) {
    await giveBack(context, changes);
    throw thrown;
  }
  await noteWritten(context);
}

async function noteWritten({ journal }: RelationshipContext): Promise<void> {
  const { firstCopy } = journal.record;
  if (firstCopy?.by !== "medium") return;
  await journal.update({ firstCopy: { ...firstCopy, stage: "written" } });
}

function finishedBefore(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot go on with the medium: because it is finished, with a point that is not noted here.",
    { hint: "Export the VM anew, to an empty folder." },
  );
}

/** From an existing disk: takes the session that holds it; null while the replica has none. */
export async function takeSeed(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<string | null> {
  const { endpoint, vm, journal } = context;
  const { stagingSessionId, generation } = journal.record;
  if (stagingSessionId !== null) return stagingSessionId;
  const status = await endpoint.enable(vm, generation, signal);
  judgeHead(journal.record, status);
  if (status.stagingSessionId === null) return null;
  await suspectAll(context);
  await journal.update({ stagingSessionId: status.stagingSessionId });
  return status.stagingSessionId;
}

/** What was found equal to an existing disk is known of that disk only. */
async function suspectAll({ tracker, targetId }: RelationshipContext): Promise<void> {
  await tracker.removeTarget(targetId);
  await tracker.addTarget(targetId, "suspect");
}
