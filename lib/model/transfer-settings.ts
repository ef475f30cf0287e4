import type { Throttle } from "./throttle.js";

/** What the relationships of a host share. The counts are for each replica. */
export interface TransferSettings {
  /** Of all of them together; null: no limit. */
  readonly throttle: Throttle | null;
  /** Segments on their way at once. */
  readonly parallelSegments: number;
  /** Relationships that cut and send at once; a consistency group counts as one. */
  readonly parallelCycles: number;
  /** First copies, resynchronizations and other long ways to the next point at once. */
  readonly parallelCopies: number;
}

export const DEFAULT_TRANSFER_SETTINGS: TransferSettings = {
  throttle: null,
  parallelSegments: 4,
  parallelCycles: 32,
  parallelCopies: 4,
};
