/**
 * The question that settles every doubt: what is the replica's head? Asked at
 * the start, after a commit without an answer and whenever the replica says
 * that something is not as known here. No checkpoint is taken before it is
 * answered.
 */
import { isDeepStrictEqual } from "node:util";
import { stillDeparted } from "../model/cut-disks.js";
import type { DiskGeometry, ReplicatedVm } from "../model/disk.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { sameGeneration } from "../model/lineage.js";
import type { CutDisk, RelationshipRecord } from "../model/relationship.js";
import type { RecoveryPoint, ReplicaVmStatus } from "../model/replica-endpoint.js";
import type { RelationshipContext } from "./relationship-context.js";
import { settleLineage, tellGeneration } from "./settle-lineage.js";
import { nextState } from "./transitions.js";

/** "committed": the in-doubt delta is the head; "unchanged": its parent is. */
export type HeadVerdict = "committed" | "unchanged";

/** Settles what is in doubt; answers the replica's head. */
export async function reconcile(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<RecoveryPoint | null> {
  const { tracker, targetId, journal } = context;
  await journal.refresh();
  const { verdict, status } = await askFinally(context, signal);
  if (verdict === "committed" && status.head !== null) {
    // The staged bits go with the in-flight ones: the point took its session in.
    await tracker.commitInFlight(targetId);
    await journal.update(headPatch(journal.record, status.head));
  } else if (journal.record.inDoubt !== null) {
    await journal.update({ inDoubt: null });
  }
  await settleStaging(context, status);
  await announceDisks(context, status, signal);
  return status.head;
}

/**
 * The replica's head, for good: a delta in doubt is abandoned before the
 * question, because a commit that is still on its way could follow the answer.
 * Abandoning what is committed changes nothing.
 */
export async function askFinally(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<{ verdict: HeadVerdict; status: ReplicaVmStatus }> {
  const { endpoint, vm, journal } = context;
  const { inDoubt } = journal.record;
  if (inDoubt !== null) {
    await endpoint.abandon(vm.vmId, inDoubt.deltaId, signal).catch((thrown: unknown) => {
      if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
    });
  }
  const status = await tellGeneration(context, await statusOf(context, signal), signal);
  await settleLineage(context, status);
  return { verdict: judgeHead(journal.record, status), status };
}

/** FENCED and CONFLICT when the replica is not as this side left it. */
export function judgeHead(record: RelationshipRecord, status: ReplicaVmStatus): HeadVerdict {
  const { generation, head } = status;
  if (!sameGeneration(generation, record.generation)) {
    throw new TidemarkError(
      "FENCED",
      `Cannot replicate: because the replica is at generation ${generation.number} of another holder.`,
      { hint: "Look at which side runs the VM; this side must not go on by itself." },
    );
  }
  const { inDoubt, headPointId } = record;
  if (inDoubt !== null && head?.pointId === inDoubt.deltaId && head.digest === inDoubt.digest) {
    return "committed";
  }
  if ((head?.pointId ?? null) === headPointId) return "unchanged";
  throw conflict(`its newest point is ${head?.pointId ?? "none"}, not ${headPointId ?? "none"}`);
}

async function statusOf(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<ReplicaVmStatus> {
  const { endpoint, vm, journal } = context;
  const { headPointId, generation } = journal.record;
  if (headPointId === null) {
    return endpoint.enable(vm, generation, signal).catch((thrown: unknown) => {
      // The first point may have been committed, and promoted, before its answer came.
      if (toTidemarkError(thrown).code !== "FENCED") throw thrown;
      return endpoint.status(vm.vmId, signal);
    });
  }
  try {
    return await endpoint.status(vm.vmId, signal);
  } catch (thrown) {
    const error = toTidemarkError(thrown);
    throw error.code === "NOT_FOUND" ? conflict("it does not know the VM any more") : error;
  }
}

function conflict(finding: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot replicate: because the replica was changed by somebody else: ${finding}.`,
    {
      hint: "Restore the replica's state, or remove the relationship, delete the VM on the replica and enable replication again.",
    },
  );
}

/** The replica learns of disks that came or went before it is asked or told anything of them. */
async function announceDisks(
  { endpoint, vm, journal }: RelationshipContext,
  status: ReplicaVmStatus,
  signal: AbortSignal,
): Promise<void> {
  if (isDeepStrictEqual(rolesOf(status.vm), rolesOf(vm))) return;
  try {
    await endpoint.enable(vm, journal.record.generation, signal);
  } catch (thrown) {
    const error = toTidemarkError(thrown);
    if (error.code !== "CONFLICT") throw error;
    throw new TidemarkError(
      "CONFLICT",
      "Cannot go on with other disks than before: because the replica refuses them.",
      {
        cause: error,
        hint: "Update Tidemark on the replica; or give the VM the disks that it had.",
      },
    );
  }
}

/** Sizes are told with each delta. */
function rolesOf({ disks, excludedDisks = [] }: ReplicatedVm): unknown {
  const role = ({ diskId, name }: DiskGeometry) => [diskId, name];
  return [disks.map(role), excludedDisks.map(role)];
}

/** What the record becomes when the replica's head is this point, cut of these disks. */
export function headPatch(
  record: RelationshipRecord,
  head: RecoveryPoint,
  headDisks: readonly CutDisk[] | undefined = record.inDoubt?.disks,
): Partial<RelationshipRecord> {
  return {
    headDisks,
    isHeadForeign: undefined,
    departedDiskIds: stillDeparted(record.departedDiskIds, headDisks),
    state: nextState(record.state, "point", true) ?? record.state,
    headPointId: head.pointId,
    cutSequence: head.cutSequence,
    inDoubt: null,
    stagingSessionId: null,
  };
}

async function settleStaging(context: RelationshipContext, status: ReplicaVmStatus): Promise<void> {
  const { stagingSessionId } = context.journal.record;
  if (stagingSessionId !== null && stagingSessionId === status.stagingSessionId) return;
  await forgetStaging(context);
}

/** What was staged is not at the replica any more: its bits return to pending, then the note goes. */
export async function forgetStaging(context: RelationshipContext): Promise<void> {
  const { tracker, targetId, journal } = context;
  const { stagedBytes } = await tracker.progress(targetId);
  if (stagedBytes > 0) await tracker.unstage(targetId);
  if (journal.record.stagingSessionId !== null) await journal.update({ stagingSessionId: null });
}
