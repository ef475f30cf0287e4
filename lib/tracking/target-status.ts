import type { SuspicionCause } from "../model/suspicion.js";

/** What a new target starts with as changed. */
export type TargetStart =
  /** Every block: right whatever the target holds already. */
  | "all"
  /** What is not known to be zero: for a target that holds nothing yet. */
  | "allocated"
  /** Nothing: the target holds exactly what the disk holds now. */
  | "nothing"
  /** Everything is suspect: the target holds an earlier state, which may be compared with. */
  | "suspect";

export interface TargetStatus {
  readonly targetId: string;
  readonly pendingBytes: number;
  readonly inFlightBytes: number;
  readonly stagedBytes: number;
  /** Of which nobody knows whether the target has it; the next checkpoint takes it along. */
  readonly suspectBytes: number;
  readonly suspicionCauses: readonly SuspicionCause[];
}

/** A bitmap of a consumer outside Tidemark. */
export interface BitmapStatus {
  readonly name: string;
  readonly targetId: string;
  /** What the next backup would hold; blocks that changed twice may count twice. */
  readonly changedBytes: number;
  /** Of these, what is taken for changed because nobody knows. */
  readonly suspectBytes: number;
  readonly isBackupOpen: boolean;
}
