/**
 * A planned failover, as the side that gives the VM away goes through it. What it asks
 * the replica to become is in its journal before it asks, and stays the same however
 * often it has to ask: an answer that is lost leaves one question, and reconcile()
 * finds the answer to it in the replica's lineage.
 */
import { randomUUID } from "node:crypto";
import { areSameCutDisks, cutDisksOf } from "../model/cut-disks.js";
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { type LineageEntry, sameGeneration, successorOf } from "../model/lineage.js";
import { holderIdOf, type RelationshipRecord } from "../model/relationship.js";
import { disksOf } from "./deliver-delta.js";
import type { RelationshipContext } from "./relationship-context.js";

/** What a planned failover makes of the VM: its replica's. */
export function asItsReplica({ generation }: RelationshipRecord): LineageEntry {
  const id = randomUUID();
  const cause = "planned-failover";
  return successorOf(generation, id, { forkPointId: null, holderId: id, cause });
}

/** And what taking it back makes: this side's, by a generation that no late answer fits. */
function backToItself(record: RelationshipRecord): LineageEntry {
  const holderId = holderIdOf(record);
  const rest = { forkPointId: null, holderId, cause: "cancelled" } as const;
  return successorOf(record.generation, randomUUID(), rest);
}

/** The replica is asked for the VM. */
export function askedBack(record: RelationshipRecord): Partial<RelationshipRecord> {
  return { handOver: backToItself(record) };
}

/**
 * It is this side's by a generation that the replica was not asked for: if that has taken over,
 * neither generation is in the other's history.
 */
export function takenBackAlone(record: RelationshipRecord): Partial<RelationshipRecord> {
  const handOver = backToItself(record);
  const { generation, holderId } = handOver;
  return { handOver, generation, holderId, state: "replicating", isResyncOrdered: false };
}

/** The generation that the replica has not been told of yet; null: it knows this side's. */
export function untoldGeneration({
  handOver,
  generation,
}: RelationshipRecord): LineageEntry | null {
  if (handOver === undefined) return null;
  return sameGeneration(handOver.generation, generation) ? handOver : null;
}

/** A replica that knows of none could not answer; asked while guests write still. */
export async function requireLineage({ endpoint, vm }: RelationshipContext): Promise<void> {
  if ((await endpoint.status(vm.vmId)).lineage !== undefined) return;
  throw new TidemarkError(
    "UNSUPPORTED",
    "Cannot hand the VM over: because the replica's version of Tidemark has no planned failover.",
    { hint: "Update Tidemark there." },
  );
}

/**
 * Nothing that the VM wrote is not at the replica, and its head has the disks that the VM has: of
 * one that was made smaller no mark says that it is another. Nobody writes to them meanwhile.
 */
export async function isAllSent(context: RelationshipContext): Promise<boolean> {
  const { tracker, targetId, journal } = context;
  const { inDoubt, stagingSessionId, headDisks } = journal.record;
  if (inDoubt !== null || stagingSessionId !== null) return false;
  if (!areSameCutDisks(headDisks ?? [], cutDisksOf(disksOf(context)))) return false;
  const progress = await tracker.progress(targetId);
  const { pendingBytes, inFlightBytes, stagedBytes, suspectBytes } = progress;
  return pendingBytes + inFlightBytes + stagedBytes + suspectBytes === 0;
}

/** Whether this side wants the VM back that it was to give away. */
export function takesBack({ journal: { record } }: RelationshipContext): boolean {
  return record.handOver?.holderId === holderIdOf(record);
}

/** The replica goes on from its head; idempotent. */
export async function askToSucceed(
  context: RelationshipContext,
  signal: AbortSignal,
): Promise<void> {
  const { endpoint, vm, journal } = context;
  const to = await noteFork(context);
  failpoint("hand-over.noted");
  await endpoint.succeed({ vmId: vm.vmId, from: journal.record.generation, to }, signal);
  failpoint("hand-over.answered");
}

/** The head cannot change between the tries: nothing is left to be sent. */
async function noteFork({ journal }: RelationshipContext): Promise<LineageEntry> {
  const { handOver, headPointId } = journal.record;
  if (handOver === undefined) {
    throw new TidemarkError("INTERNAL", "Cannot hand the VM over: because nobody asked for it.");
  }
  if (handOver.forkPointId === headPointId) return handOver;
  const forked = { ...handOver, forkPointId: headPointId };
  await journal.update({ handOver: forked });
  return forked;
}
