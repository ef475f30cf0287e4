import { TidemarkError } from "../model/errors.js";
import {
  firstEntry,
  isPromotion,
  type Lineage,
  type LineageEntry,
  presentEntry,
  sameGeneration,
  standingIn,
} from "../model/lineage.js";
import { holderIdOf, isGivenAway, type RelationshipRecord } from "../model/relationship.js";
import type { ReplicaVmStatus } from "../model/replica-endpoint.js";
import { untoldGeneration } from "./hand-over.js";
import type { RelationshipContext } from "./relationship-context.js";
import { nextState } from "./transitions.js";

/** The VM goes on elsewhere: this side must not write to its state any more. */
export class Superseded extends TidemarkError {
  readonly entry: LineageEntry;

  constructor(entry: LineageEntry) {
    super(
      "FENCED",
      `Cannot replicate: because the replica has taken the VM over (generation ${entry.generation.number}).`,
      { hint: "Reverse the replication there, or cancel its failover." },
    );
    this.entry = entry;
  }
}

/**
 * A generation that this side took alone becomes the replica's, as long as that is where this
 * side left it. The status as it is then.
 */
export async function tellGeneration(
  { endpoint, vm, journal }: RelationshipContext,
  status: ReplicaVmStatus,
  signal: AbortSignal,
): Promise<ReplicaVmStatus> {
  const untold = untoldGeneration(journal.record);
  if (untold === null) return status;
  const { generation: from } = status;
  const isBehind = untold.parentId === from.id;
  if (!isBehind && !sameGeneration(untold.generation, from)) return status;
  const told = isBehind
    ? await endpoint.succeed({ vmId: vm.vmId, from, to: untold }, signal)
    : status;
  await journal.update({ handOver: undefined });
  return told;
}

/**
 * What the replica's lineage makes of this side: it goes on as before, it takes the
 * generation by which it got the VM back, or it is superseded. FENCED, retried by nobody,
 * when the two have different histories: both sides are kept as they are.
 */
export async function settleLineage(
  { journal, onReturn }: RelationshipContext,
  { generation, lineage = [firstEntry(generation)] }: ReplicaVmStatus,
): Promise<void> {
  const { record } = journal;
  const present = presentEntry(lineage);
  switch (standingIn(lineage, { generation: record.generation, holderId: holderIdOf(record) })) {
    case "holder":
      return;
    case "returned":
      return onReturn(() => journal.update((latest) => returned(latest, present)));
    case "superseded":
      if (isPromotion(present)) throw new Superseded(present);
      if (isGivenAway(record)) await onReturn(() => journal.update(notThere));
      throw takenOver(record);
    case "foreign":
      throw splitBrain(lineage, record);
  }
}

function returned(record: RelationshipRecord, { generation, holderId }: LineageEntry) {
  return { ...notThere(record), generation, holderId };
}

/** The replica's host has the VM no more, nor can it be handed it. */
function notThere(record: RelationshipRecord) {
  const state = nextState(record.state, "return", true) ?? record.state;
  return { state, handOver: undefined, isResyncOrdered: false };
}

/** The VM itself may be here still: who has it, its other targets tell. */
function takenOver({ settings }: RelationshipRecord): TidemarkError {
  return new TidemarkError(
    "FENCED",
    `Cannot replicate to ${settings.replicaUrl}: because another host has become the replica's primary.`,
    {
      hint: "If this host is to have it again: tidemark vm remove VM@TARGET, then tidemark vm add-target --take-over.",
    },
  );
}

function splitBrain(lineage: Lineage, { generation }: RelationshipRecord): TidemarkError {
  const { number } = presentEntry(lineage).generation;
  return new TidemarkError(
    "FENCED",
    `Cannot replicate: because this side's generation ${generation.number} is not in the replica's history, which is at generation ${number}: both have gone on by themselves.`,
    {
      hint: "Both sides are kept. Decide which one goes on, and remove the relationship or the replica of the other.",
    },
  );
}
