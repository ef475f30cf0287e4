/** One cycle: checkpoint, delta, commit. Also the close of an initial replication. */
import { randomUUID } from "node:crypto";
import { toTidemarkError } from "../model/errors.js";
import type { RelationshipRecord } from "../model/relationship.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import { askForCommit, commitPoint } from "./commit-point.js";
import { type DeliveredDelta, deliverDelta, requireUnbroken } from "./deliver-delta.js";
import { giveBack } from "./give-back.js";
import { headPatch } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";

export interface PointOutcome {
  readonly point: RecoveryPoint;
  /** False when the head was only found to be still valid. */
  readonly isNew: boolean;
  readonly changes: Pick<TargetChanges, "cut" | "dirtyBytes">;
  readonly sentBytes: number;
}

export async function runPointCycle(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<PointOutcome> {
  const { headPointId, stagingSessionId } = context.journal.record;
  const changes = await cut(context, signal);
  const draft = { kind: "point", parentPointId: headPointId, stagingSessionId } as const;
  const deltaId = randomUUID();
  const delta = await deliverOrGiveBack(context, changes, deltaId, signal, () =>
    deliverDelta(context, changes, { ...draft, deltaId }, signal),
  );
  const point = extendsHead(context.journal.record, changes)
    ? await extendHead(context, changes, delta, signal)
    : await commitPoint(context, changes, delta, signal);
  return { point, isNew: point.pointId === deltaId, changes, sentBytes: delta.sentBytes };
}

/** With the VM's group when it has one; the first point is a matter of the VM alone. */
function cut(context: RelationshipContext, signal: AbortSignal): Promise<TargetChanges> {
  const { tracker, targetId, timeBox, limits, journal } = context;
  const { segmentBytes } = limits;
  const group = journal.record.headPointId === null ? null : context.group();
  if (group !== null) return group.arrive({ tracker, targetId, options: { segmentBytes } }, signal);
  return timeBox.take((drainLimitMs) =>
    tracker.checkpoint(targetId, { segmentBytes, drainLimitMs, signal }),
  );
}

/** Ends the changes when their delivery fails, whatever the reason. */
export async function deliverOrGiveBack(
  context: RelationshipContext,
  changes: TargetChanges,
  deltaId: string,
  signal: AbortSignal,
  deliver: () => Promise<DeliveredDelta>,
): Promise<DeliveredDelta> {
  try {
    const delta = await deliver();
    requireUnbroken(changes);
    return delta;
  } catch (thrown) {
    await giveBack(context, changes);
    await abandonQuietly(context, deltaId, signal);
    throw thrown;
  }
}

/** Frees the replica's space early; the next delta supersedes this one anyway. */
async function abandonQuietly(
  { endpoint, vm, onRetry }: RelationshipContext,
  deltaId: string,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  await endpoint.abandon(vm.vmId, deltaId, signal).catch((thrown: unknown) => {
    onRetry(toTidemarkError(thrown));
  });
}

function extendsHead(record: RelationshipRecord, changes: TargetChanges): boolean {
  const empty = changes.segments.length === 0 && record.stagingSessionId === null;
  return empty && record.headPointId !== null;
}

/**
 * Needs no in-doubt note: whether the replica took it or not, its head is the
 * same point, no bit depends on it, and what it says (nothing had changed until
 * this cut) stays true however late it arrives. Of a disk that was cut the replica
 * makes a point of it; should that answer be lost, its head is one that we do not know, and
 * everything is compared.
 */
async function extendHead(
  context: RelationshipContext,
  changes: TargetChanges,
  delta: DeliveredDelta,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  await giveBack(context, changes);
  const { journal } = context;
  const { deltaId } = delta.header;
  const expected = [journal.record.headPointId, deltaId];
  const point = await askForCommit(context, delta, expected, signal);
  if (point.pointId === deltaId) await journal.update(headPatch(journal.record, point));
  return point;
}
