/**
 * What replication did over time, in buckets: one for each cycle at first, and sums of
 * fixed spans that are kept longer. A sum of buckets is a bucket again.
 */
export interface HistoryBucket {
  /** Epoch; a span's begin, or when the cycle ended. */
  readonly atMs: number;
  /** 0: what happened at one instant. */
  readonly spanMs: number;
  readonly cycleCount: number;
  readonly missedCount: number;
  readonly errorCount: number;
  /** Of the errors: those of the way to the replica. */
  readonly networkErrorCount: number;
  readonly changedBytes: number;
  /** Compressed. */
  readonly sentBytes: number;
  /** Changed, but not in content: not sent. Absent: noted by a version that sent all. */
  readonly unchangedBytes?: number | undefined;
  readonly durationTotalMs: number;
  readonly durationMaxMs: number;
  /** How old the replica's state was when a cycle's commit was acknowledged. */
  readonly lagTotalMs: number;
  readonly lagMaxMs: number;
  readonly pauseTotalNs: number;
  readonly pauseMaxNs: number;
  /** By the disk's name. */
  readonly diskChangedBytes: Readonly<Record<string, number>>;
}

export function emptyBucket(atMs: number, spanMs: number): HistoryBucket {
  return {
    atMs,
    spanMs,
    cycleCount: 0,
    missedCount: 0,
    errorCount: 0,
    networkErrorCount: 0,
    changedBytes: 0,
    sentBytes: 0,
    unchangedBytes: 0,
    durationTotalMs: 0,
    durationMaxMs: 0,
    lagTotalMs: 0,
    lagMaxMs: 0,
    pauseTotalNs: 0,
    pauseMaxNs: 0,
    diskChangedBytes: {},
  };
}

/** What both hold, at the first one's place. */
export function addBuckets(sum: HistoryBucket, other: HistoryBucket): HistoryBucket {
  const diskChangedBytes = { ...sum.diskChangedBytes };
  for (const [name, bytes] of Object.entries(other.diskChangedBytes)) {
    diskChangedBytes[name] = (diskChangedBytes[name] ?? 0) + bytes;
  }
  return {
    atMs: sum.atMs,
    spanMs: sum.spanMs,
    cycleCount: sum.cycleCount + other.cycleCount,
    missedCount: sum.missedCount + other.missedCount,
    errorCount: sum.errorCount + other.errorCount,
    networkErrorCount: sum.networkErrorCount + other.networkErrorCount,
    changedBytes: sum.changedBytes + other.changedBytes,
    sentBytes: sum.sentBytes + other.sentBytes,
    unchangedBytes: (sum.unchangedBytes ?? 0) + (other.unchangedBytes ?? 0),
    durationTotalMs: sum.durationTotalMs + other.durationTotalMs,
    durationMaxMs: Math.max(sum.durationMaxMs, other.durationMaxMs),
    lagTotalMs: sum.lagTotalMs + other.lagTotalMs,
    lagMaxMs: Math.max(sum.lagMaxMs, other.lagMaxMs),
    pauseTotalNs: sum.pauseTotalNs + other.pauseTotalNs,
    pauseMaxNs: Math.max(sum.pauseMaxNs, other.pauseMaxNs),
    diskChangedBytes,
  };
}

/** Where the span begins that an instant is in. */
export function spanBeginMs(atMs: number, spanMs: number): number {
  return Math.floor(atMs / spanMs) * spanMs;
}
