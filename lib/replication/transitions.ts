/**
 * The states of a relationship, as data. docs/relationship-states.md explains
 * them, with a drawing made from this table; a test holds the page to it.
 */
import type { RelationshipState } from "../model/relationship.js";

export type RelationshipEvent =
  /** The first run: from here on something is at work for it. */
  | "begin"
  /** A recovery point was committed. */
  | "point"
  /** Something is suspect, and the policy does not let it be compared now. */
  | "defer"
  /** What is suspect is being compared with the replica. */
  | "compare"
  /** Nothing is suspect any more. */
  | "healed"
  /** Something that an administrator must look at. */
  | "fail"
  /** What failed is tried again. */
  | "retry"
  | "suspend"
  | "resume"
  /** A planned failover. */
  | "hand over"
  /** The replica has taken over. */
  | "yield"
  /** The replica has given the VM back. */
  | "return"
  /** The first copy is given up. */
  | "cancel";

export interface Transition {
  readonly from: RelationshipState;
  readonly event: RelationshipEvent;
  /** Absent: whether there is a recovery point or not. */
  readonly guard?: "has a point" | "has no point";
  readonly to: RelationshipState;
}

export const TRANSITIONS: readonly Transition[] = [
  { from: "ready", event: "begin", to: "initial-replication" },
  { from: "ready", event: "suspend", to: "suspended" },
  { from: "ready", event: "cancel", to: "ready" },
  { from: "initial-replication", event: "point", to: "replicating" },
  { from: "initial-replication", event: "fail", to: "error" },
  { from: "initial-replication", event: "suspend", to: "suspended" },
  { from: "initial-replication", event: "cancel", to: "ready" },
  { from: "replicating", event: "point", to: "replicating" },
  { from: "replicating", event: "defer", to: "resynchronization-required" },
  { from: "replicating", event: "compare", to: "resynchronizing" },
  { from: "replicating", event: "fail", to: "error" },
  { from: "replicating", event: "suspend", to: "suspended" },
  { from: "resynchronization-required", event: "defer", to: "resynchronization-required" },
  { from: "resynchronization-required", event: "compare", to: "resynchronizing" },
  { from: "resynchronization-required", event: "healed", to: "replicating" },
  { from: "resynchronization-required", event: "fail", to: "error" },
  { from: "resynchronization-required", event: "suspend", to: "suspended" },
  { from: "resynchronizing", event: "defer", to: "resynchronization-required" },
  { from: "resynchronizing", event: "compare", to: "resynchronizing" },
  { from: "resynchronizing", event: "healed", to: "replicating" },
  { from: "resynchronizing", event: "fail", to: "error" },
  { from: "resynchronizing", event: "suspend", to: "suspended" },
  { from: "replicating", event: "hand over", to: "handing-over" },
  { from: "initial-replication", event: "yield", to: "failed-over" },
  { from: "replicating", event: "yield", to: "failed-over" },
  { from: "resynchronization-required", event: "yield", to: "failed-over" },
  { from: "resynchronizing", event: "yield", to: "failed-over" },
  { from: "error", event: "yield", to: "failed-over" },
  { from: "handing-over", event: "yield", to: "failed-over" },
  { from: "handing-over", event: "return", to: "replicating" },
  { from: "failed-over", event: "yield", to: "failed-over" },
  { from: "failed-over", event: "return", to: "replicating" },
  { from: "suspended", event: "resume", guard: "has no point", to: "ready" },
  { from: "suspended", event: "resume", guard: "has a point", to: "replicating" },
  { from: "suspended", event: "cancel", guard: "has no point", to: "ready" },
  { from: "error", event: "fail", to: "error" },
  { from: "error", event: "suspend", to: "suspended" },
  { from: "error", event: "retry", guard: "has no point", to: "initial-replication" },
  { from: "error", event: "retry", guard: "has a point", to: "replicating" },
  { from: "error", event: "cancel", guard: "has no point", to: "ready" },
];

/** Where the event leads; null when it does not fit the state. */
export function nextState(
  from: RelationshipState,
  event: RelationshipEvent,
  hasPoint: boolean,
): RelationshipState | null {
  const guard = hasPoint ? "has a point" : "has no point";
  const fits = (row: Transition) =>
    row.from === from && row.event === event && (row.guard ?? guard) === guard;
  return TRANSITIONS.find(fits)?.to ?? null;
}
