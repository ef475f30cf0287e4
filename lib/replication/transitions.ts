/**
 * The states of a relationship, as data. docs/relationship-states.md explains
 * them; a test holds the page to this table.
 */
import type { RelationshipState } from "../model/relationship.js";

export type RelationshipEvent =
  /** The first run: from here on something is at work for it. */
  | "begin"
  /** A recovery point was committed. */
  | "point"
  /** Something that an administrator must look at. */
  | "fail"
  /** What failed is tried again. */
  | "retry"
  | "suspend"
  | "resume";

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
  { from: "initial-replication", event: "point", to: "replicating" },
  { from: "initial-replication", event: "fail", to: "error" },
  { from: "initial-replication", event: "suspend", to: "suspended" },
  { from: "replicating", event: "point", to: "replicating" },
  { from: "replicating", event: "fail", to: "error" },
  { from: "replicating", event: "suspend", to: "suspended" },
  { from: "suspended", event: "resume", guard: "has no point", to: "initial-replication" },
  { from: "suspended", event: "resume", guard: "has a point", to: "replicating" },
  { from: "error", event: "fail", to: "error" },
  { from: "error", event: "suspend", to: "suspended" },
  { from: "error", event: "retry", guard: "has no point", to: "initial-replication" },
  { from: "error", event: "retry", guard: "has a point", to: "replicating" },
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
