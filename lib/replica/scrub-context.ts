import type { Damage } from "../model/verification.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { ScrubPace } from "./scrub-pace.js";
import type { VmReplica } from "./vm-replica.js";

/** What the parts of a verification work with, and what they have found so far. */
export interface ScrubContext {
  readonly tools: ReplicaTools;
  readonly replica: VmReplica;
  readonly pace: ScrubPace;
  readonly signal: AbortSignal;
  /** The last point whose files are looked at. */
  readonly upToSequence: number;
  /** Small files that are damaged are written again from what memory holds of them. */
  readonly mends: boolean;
  readonly findings: ScrubFindings;
}

export interface ScrubFindings {
  verifiedBytes: number;
  unknownBytes: number;
  readonly damage: Damage[];
  readonly mendedFiles: string[];
}

/** Read at once between two pauses. */
export const SCRUB_PIECE_BYTES = 8 << 20;
