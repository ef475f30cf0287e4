/**
 * What replication of a VM did within one monitoring interval, counted from the engine's
 * events. Only numbers: it can be saved at any time and gone on with from there.
 */
import { type HistogramState, PauseHistogram } from "../model/pause-histogram.js";
import type { CycleReport } from "../model/relationship.js";

export interface Spread {
  readonly average: number;
  /** At most an eighth too high, and never too low. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface IntervalSummary {
  readonly beginMs: number;
  readonly endMs: number;
  readonly cycleCount: number;
  readonly missedCount: number;
  /** Of the cycles that were due; 0 when none was. */
  readonly missedShare: number;
  readonly errorCount: number;
  readonly networkErrorCount: number;
  /** Points that were to be application-consistent, and are not. */
  readonly freezeFailureCount: number;
  readonly changedBytes: number;
  readonly changedBytesAverage: number;
  readonly changedBytesMax: number;
  readonly sentBytes: number;
  readonly sentBytesAverage: number;
  readonly sentBytesMax: number;
  /** Changed, but not in content: not sent. */
  readonly unchangedBytes: number;
  /** Content that travelled for each byte sent; null when nothing was sent. */
  readonly compressionRatio: number | null;
  /** What comparisons found different. */
  readonly resynchronizedBytes: number;
  /** From the cut to the commit's acknowledgement. */
  readonly durationMs: Spread;
  /** How old the replica's state was at a commit's acknowledgement. */
  readonly lagMs: Spread;
  readonly pauseMs: Spread;
  /** By the disk's name. */
  readonly diskChangedBytes: Readonly<Record<string, number>>;
}

export interface IntervalState {
  readonly beginMs: number;
  readonly cycleCount: number;
  readonly missedCount: number;
  readonly errorCount: number;
  readonly networkErrorCount: number;
  readonly freezeFailureCount: number;
  readonly changedBytes: number;
  readonly changedBytesMax: number;
  readonly sentBytes: number;
  readonly sentBytesMax: number;
  readonly unchangedBytes: number;
  readonly resynchronizedBytes: number;
  readonly durations: HistogramState;
  readonly lags: HistogramState;
  readonly pauses: HistogramState;
  readonly diskChangedBytes: Readonly<Record<string, number>>;
}

type Counts = {
  -readonly [Key in keyof Omit<
    IntervalState,
    "durations" | "lags" | "pauses" | "diskChangedBytes"
  >]: number;
};

/** Histograms count nanoseconds up to half an hour; of microseconds, up to years. */
const US_PER_MS = 1000;
const NS_PER_MS = 1e6;

export class IntervalStatistics {
  readonly #counts: Counts;
  readonly #durations: PauseHistogram;
  readonly #lags: PauseHistogram;
  readonly #pauses: PauseHistogram;
  readonly #diskChangedBytes: Record<string, number>;

  private constructor(state: IntervalState) {
    const { durations, lags, pauses, diskChangedBytes, ...counts } = state;
    // An earlier version has saved a state without some of them.
    const { unchangedBytes = 0, freezeFailureCount = 0 } = counts as Partial<Counts>;
    this.#counts = { ...counts, unchangedBytes, freezeFailureCount };
    this.#durations = PauseHistogram.of(durations);
    this.#lags = PauseHistogram.of(lags);
    this.#pauses = PauseHistogram.of(pauses);
    this.#diskChangedBytes = { ...diskChangedBytes };
  }

  static begin(beginMs: number): IntervalStatistics {
    const none = { buckets: [], totalNs: 0, maxNs: 0 };
    return new IntervalStatistics({
      beginMs,
      cycleCount: 0,
      missedCount: 0,
      errorCount: 0,
      networkErrorCount: 0,
      freezeFailureCount: 0,
      changedBytes: 0,
      changedBytesMax: 0,
      sentBytes: 0,
      sentBytesMax: 0,
      unchangedBytes: 0,
      resynchronizedBytes: 0,
      durations: none,
      lags: none,
      pauses: none,
      diskChangedBytes: {},
    });
  }

  static of(state: IntervalState): IntervalStatistics {
    return new IntervalStatistics(state);
  }

  get beginMs(): number {
    return this.#counts.beginMs;
  }

  countCycle(report: CycleReport): void {
    const { changedBytes, sentBytes, unchangedBytes, durationMs, lagMs, pauseNs, healing } = report;
    const counts = this.#counts;
    counts.cycleCount += 1;
    counts.changedBytes += changedBytes;
    counts.changedBytesMax = Math.max(counts.changedBytesMax, changedBytes);
    counts.sentBytes += sentBytes;
    counts.sentBytesMax = Math.max(counts.sentBytesMax, sentBytes);
    counts.unchangedBytes += unchangedBytes;
    counts.resynchronizedBytes += healing?.differingBytes ?? 0;
    this.#durations.record(durationMs * US_PER_MS);
    this.#lags.record(lagMs * US_PER_MS);
    this.#pauses.record(pauseNs);
    for (const [name, bytes] of Object.entries(report.diskChangedBytes ?? {})) {
      this.#diskChangedBytes[name] = (this.#diskChangedBytes[name] ?? 0) + bytes;
    }
  }

  countMissed(count: number): void {
    this.#counts.missedCount += count;
  }

  countError(isOfNetwork: boolean): void {
    this.#counts.errorCount += 1;
    if (isOfNetwork) this.#counts.networkErrorCount += 1;
  }

  countFreezeFailure(): void {
    this.#counts.freezeFailureCount += 1;
  }

  state(): IntervalState {
    return {
      ...this.#counts,
      durations: this.#durations.state(),
      lags: this.#lags.state(),
      pauses: this.#pauses.state(),
      diskChangedBytes: { ...this.#diskChangedBytes },
    };
  }

  summary(endMs: number): IntervalSummary {
    const counts = this.#counts;
    const { cycleCount, missedCount, changedBytes, sentBytes, unchangedBytes } = counts;
    const dueCount = cycleCount + missedCount;
    return {
      ...counts,
      endMs,
      missedShare: dueCount === 0 ? 0 : missedCount / dueCount,
      changedBytesAverage: cycleCount === 0 ? 0 : changedBytes / cycleCount,
      sentBytesAverage: cycleCount === 0 ? 0 : sentBytes / cycleCount,
      compressionRatio: sentBytes === 0 ? null : (changedBytes - unchangedBytes) / sentBytes,
      durationMs: spreadOf(this.#durations, US_PER_MS),
      lagMs: spreadOf(this.#lags, US_PER_MS),
      pauseMs: spreadOf(this.#pauses, NS_PER_MS),
      diskChangedBytes: { ...this.#diskChangedBytes },
    };
  }
}

function spreadOf(histogram: PauseHistogram, unitsPerMs: number): Spread {
  const { count, totalNs, p50Ns, p99Ns, maxNs } = histogram.summary();
  return {
    average: count === 0 ? 0 : totalNs / count / unitsPerMs,
    p50: p50Ns / unitsPerMs,
    p99: p99Ns / unitsPerMs,
    max: maxNs / unitsPerMs,
  };
}
