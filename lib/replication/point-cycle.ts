/** One cycle: checkpoint, delta, commit. Also the close of an initial replication. */
import { randomUUID } from "node:crypto";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { RelationshipRecord } from "../model/relationship.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { CheckpointOptions, TargetChanges } from "../model/vm-tracker.js";
import { changedByDisk, type DiskBytes } from "./changed-by-disk.js";
import { commitPoint } from "./commit-point.js";
import { cutAtRest } from "./cut-at-rest.js";
import { type DeliveredDelta, deliverDelta, requireUnbroken } from "./deliver-delta.js";
import { extendHead, standsForHead } from "./extend-head.js";
import { giveBack } from "./give-back.js";
import type { RelationshipContext } from "./relationship-context.js";

export interface PointOutcome {
  readonly point: RecoveryPoint;
  /** False when the head was only found to be still valid. */
  readonly isNew: boolean;
  readonly changes: Pick<TargetChanges, "cut" | "dirtyBytes">;
  readonly diskChangedBytes: DiskBytes;
  readonly sentBytes: number;
  /** Of what changed: what the replica was known to hold already. */
  readonly unchangedBytes: number;
}

export async function runPointCycle(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<PointOutcome> {
  const changes = await cut(context, signal);
  const deltaId = randomUUID();
  const [delta, point] = standsForHead(context, changes)
    ? await extendHead(context, changes, deltaId, signal)
    : await makePoint(context, changes, deltaId, signal);
  await context.applications.noteCommitted(changes.cut);
  const diskChangedBytes = changedByDisk(delta.header.disks, changes.segments);
  const isNew = point.pointId === deltaId;
  const { sentBytes, unchangedBytes } = delta;
  return { point, isNew, changes, diskChangedBytes, sentBytes, unchangedBytes };
}

async function makePoint(
  context: RelationshipContext,
  changes: TargetChanges,
  deltaId: string,
  signal: AbortSignal,
): Promise<readonly [DeliveredDelta, RecoveryPoint]> {
  const { headPointId, stagingSessionId } = context.journal.record;
  const draft = { deltaId, kind: "point", parentPointId: headPointId, stagingSessionId } as const;
  const delta = await deliverOrGiveBack(context, changes, deltaId, signal, () =>
    deliverDelta(context, changes, draft, signal),
  );
  return [delta, await commitPoint(context, changes, delta, signal)];
}

/** With the VM's group when it has one; the first point is a matter of the VM alone. */
async function cut(context: RelationshipContext, signal: AbortSignal): Promise<TargetChanges> {
  const { tracker, targetId, timeBox, journal } = context;
  const options = { segmentBytes: context.segmentBytes(), ...whatIsKnown(journal.record) };
  const group = journal.record.headPointId === null ? null : context.group();
  if (group !== null) return group.arrive({ tracker, targetId, options }, signal);
  const alone = (drainLimitMs: number) =>
    tracker.checkpoint(targetId, { ...options, drainLimitMs, signal });
  const { applications } = context;
  const [changes] = await cutAtRest([{ applications, signal }], async () => [
    await timeBox.take(alone),
  ]);
  if (changes !== undefined) return changes;
  throw new TidemarkError("INTERNAL", "Cannot cut the VM: because the cut has no answer.");
}

/** What a staging session holds hides the head. */
function whatIsKnown({
  settings,
  headPointId,
  stagingSessionId,
}: RelationshipRecord): Pick<CheckpointOptions, "unchangedSince"> {
  if (!settings.skipUnchanged) return {};
  return { unchangedSince: stagingSessionId === null ? headPointId : null };
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
