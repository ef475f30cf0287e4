/** What bounds the engine's work for one relationship. */
export interface ReplicationLimits {
  readonly segmentBytes: number;
  /** Segments of a delta that are on their way at once. */
  readonly parallelSegments: number;
  /** Failures in a row, without a segment arriving, after which a delta is given back. */
  readonly deliveryFailures: number;
  /** Times a commit is asked for while its outcome is unknown. */
  readonly commitAttempts: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  /** The checkpoint's gate may wait this long, doubled after each miss up to the maximum. */
  readonly drainLimitMs: number;
  readonly drainLimitMaxMs: number;
  /**
   * A drain pass into staging takes about this much: what a restart may have to send
   * again. Halved, down to closingBytes, after each pass that hardly shrinks what is left.
   */
  readonly passBytes: number;
  /** Draining ends when less than this is left; the closing checkpoint takes the rest. */
  readonly closingBytes: number;
  /** Passes that hardly shrink what is left, after which the closing checkpoint is taken. */
  readonly stalledPasses: number;
  /** More than this pending is drained first: a capture of it would not hold. */
  readonly captureBytes: number;
  /** A pass of the comparison of suspect blocks hashes about this much. */
  readonly comparisonBytes: number;
  /** How often the replica is asked whether it has found its newest point damaged. */
  readonly damageCheckMs: number;
  /** Passes that new suspicion overtook, after which the cut takes along what is suspect. */
  readonly overtakenComparisons: number;
  /** How often what an administrator must look at is tried again. */
  readonly errorRetryMs: number;
  /** How often the replica is asked whether a medium was imported, or an existing disk named. */
  readonly importPollMs: number;
  /** How long a try to thaw a VM's applications may take. */
  readonly thawLimitMs: number;
  /** After a freeze that gave no point; doubled each time, up to how often one is wanted. */
  readonly freezeRetryMs: number;
  /** Cycle reports kept. */
  readonly historyLength: number;
}

const MiB = 1024 * 1024;

export const DEFAULT_REPLICATION_LIMITS: ReplicationLimits = {
  segmentBytes: 8 * MiB,
  parallelSegments: 4,
  deliveryFailures: 4,
  commitAttempts: 5,
  retryBaseMs: 250,
  retryMaxMs: 10_000,
  drainLimitMs: 50,
  drainLimitMaxMs: 1000,
  passBytes: 1024 * MiB,
  closingBytes: 64 * MiB,
  stalledPasses: 5,
  captureBytes: 1024 * MiB,
  comparisonBytes: 8 * MiB,
  damageCheckMs: 60_000,
  overtakenComparisons: 10,
  errorRetryMs: 60_000,
  importPollMs: 5000,
  thawLimitMs: 10_000,
  freezeRetryMs: 60_000,
  historyLength: 100,
};
