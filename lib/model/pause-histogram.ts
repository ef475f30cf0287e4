/**
 * How long gates were closed, as a histogram.
 *
 * Representation: log-linear buckets, eight to each power of two from about a microsecond
 * up, so that a quantile is at most an eighth too high, and never too low. 249 counters,
 * whatever is recorded; recording costs a logarithm and an increment.
 */
export interface PauseSummary {
  readonly count: number;
  readonly totalNs: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly maxNs: number;
  /** Of the buckets that hold something: how many pauses took `atMostNs` or less, cumulated. */
  readonly buckets: readonly { readonly atMostNs: number; readonly count: number }[];
}

/** Where one stands, to go on from: [bucket, count, ...] of the buckets that hold something. */
export interface HistogramState {
  readonly buckets: readonly number[];
  readonly totalNs: number;
  readonly maxNs: number;
}

const SUB_BUCKETS = 8;
const FIRST_POWER = 10;
const LAST_POWER = 40;
const BUCKET_COUNT = (LAST_POWER - FIRST_POWER + 1) * SUB_BUCKETS + 1;

export class PauseHistogram {
  readonly #counts = Array.from({ length: BUCKET_COUNT }, () => 0);
  #count = 0;
  #totalNs = 0;
  #maxNs = 0;

  static of({ buckets, totalNs, maxNs }: HistogramState): PauseHistogram {
    const histogram = new PauseHistogram();
    for (let at = 0; at + 1 < buckets.length; at += 2) {
      const [index = 0, count = 0] = [buckets[at], buckets[at + 1]];
      histogram.#counts[index] = count;
      histogram.#count += count;
    }
    histogram.#totalNs = totalNs;
    histogram.#maxNs = maxNs;
    return histogram;
  }

  state(): HistogramState {
    const buckets = [...this.#counts.entries()].filter(([, count]) => count > 0).flat();
    return { buckets, totalNs: this.#totalNs, maxNs: this.#maxNs };
  }

  record(pauseNs: number): void {
    const index = bucketOf(pauseNs);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#count += 1;
    this.#totalNs += pauseNs;
    this.#maxNs = Math.max(this.#maxNs, pauseNs);
  }

  /** The upper edge of the bucket that holds it, at most the longest pause; 0 without any. */
  quantileNs(share: number): number {
    const rank = Math.max(1, Math.ceil(share * this.#count));
    let seen = 0;
    for (const [index, count] of this.#counts.entries()) {
      seen += count;
      if (seen >= rank) return Math.min(upperEdgeNs(index), this.#maxNs);
    }
    return this.#maxNs;
  }

  summary(): PauseSummary {
    const buckets: { atMostNs: number; count: number }[] = [];
    let seen = 0;
    for (const [index, count] of this.#counts.entries()) {
      seen += count;
      if (count > 0) buckets.push({ atMostNs: upperEdgeNs(index), count: seen });
    }
    return {
      count: this.#count,
      totalNs: this.#totalNs,
      p50Ns: this.quantileNs(0.5),
      p99Ns: this.quantileNs(0.99),
      maxNs: this.#maxNs,
      buckets,
    };
  }
}

/** Bucket 0 is everything below the first power; the last one takes whatever is longer. */
function bucketOf(pauseNs: number): number {
  if (!(pauseNs >= 2 ** FIRST_POWER)) return 0;
  const power = Math.min(Math.floor(Math.log2(pauseNs)), LAST_POWER);
  const within = Math.floor((pauseNs / 2 ** power - 1) * SUB_BUCKETS);
  return 1 + (power - FIRST_POWER) * SUB_BUCKETS + Math.min(within, SUB_BUCKETS - 1);
}

function upperEdgeNs(index: number): number {
  if (index === 0) return 2 ** FIRST_POWER;
  const power = FIRST_POWER + Math.floor((index - 1) / SUB_BUCKETS);
  return 2 ** power * (1 + (((index - 1) % SUB_BUCKETS) + 1) / SUB_BUCKETS);
}
