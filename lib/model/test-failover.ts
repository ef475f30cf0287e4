import type { PointExport } from "./replica-exports.js";

/** Why a test failover ended. */
export const TEST_FAILOVER_OUTCOMES = [
  "closed",
  "time limit",
  "space shortage",
  "end of the service",
  /** It was killed, or the machine was: the next start drops what is left. */
  "death of the service",
] as const;

export type TestFailoverOutcome = (typeof TEST_FAILOVER_OUTCOMES)[number];

/** The reading of its whole point against the checksums. */
export interface TestFailoverCheck {
  readonly state: "running" | "good" | "damaged" | "failed";
  readonly verifiedBytes: number;
  /** Null while it runs. */
  readonly durationMs: number | null;
  /** Why it did not come to its end. */
  readonly failure: string | null;
}

/** A test failover of all VMs of a consistency group at one cut. */
export interface GroupTest {
  readonly testId: string;
  readonly groupId: string;
  readonly name: string;
  readonly cutNumber: number;
}

/** How long it may last and what it may take. */
export interface TestFailoverTerms {
  /** Null: until it is closed. */
  readonly forMs: number | null;
  /** Of all its disks together; null: what the floor of free space leaves. */
  readonly scratchLimitBytes: number | null;
}

/** Where its end is put: so much later than it is, to an instant, or nowhere. */
export type NewEnd = { readonly byMs: number } | { readonly untilMs: number | null };

/** How an open test failover stands. */
export interface TestFailoverState {
  readonly sinceMs: number;
  /** By the wall clock as it is now; null: until it is closed. */
  readonly untilMs: number | null;
  readonly ageMs: number;
  /** How long the opening took. */
  readonly openingMs: number;
  readonly scratchBytes: number;
  readonly scratchLimitBytes: number | null;
  /** Writes that failed for want of room. */
  readonly refusedWriteCount: number;
  readonly clientCount: number;
  readonly group: GroupTest | null;
  readonly check: TestFailoverCheck | null;
}

export interface TestFailover extends PointExport {
  readonly test: TestFailoverState;
}

/** One that has ended. */
export interface TestFailoverReport {
  readonly exportId: string;
  readonly pointId: string;
  /** Null where the death of the service left no number. */
  readonly pointSequence: number | null;
  readonly sinceMs: number;
  readonly endedAtMs: number;
  readonly outcome: TestFailoverOutcome;
  readonly scratchBytes: number;
  readonly refusedWriteCount: number;
  readonly check: TestFailoverCheck | null;
}
