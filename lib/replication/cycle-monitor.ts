import type { Clock } from "../model/clock.js";

const BUCKET_COUNT = 60;
const SHORTEST_BUCKET_MS = 60_000;

export interface MonitoredCycles {
  readonly doneCount: number;
  readonly missedCount: number;
  readonly meanDurationMs: number;
}

interface Bucket {
  readonly number: number;
  doneCount: number;
  missedCount: number;
  durationMs: number;
}

/** Cycles of the last hour, or of the last 60 intervals where that is longer. */
export class CycleMonitor {
  readonly #clock: Clock;
  #buckets: Bucket[] = [];
  #bucketMs = SHORTEST_BUCKET_MS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Another rhythm: what was counted in the former one says nothing. */
  setInterval(intervalMs: number): void {
    const bucketMs = Math.max(SHORTEST_BUCKET_MS, intervalMs);
    this.#bucketMs = bucketMs;
    this.reset();
  }

  reset(): void {
    this.#buckets = [];
  }

  done(durationMs: number): void {
    const bucket = this.#current();
    bucket.doneCount += 1;
    bucket.durationMs += durationMs;
  }

  missed(count: number): void {
    this.#current().missedCount += count;
  }

  summary(): MonitoredCycles {
    this.#dropOld();
    const sum = (of: (bucket: Bucket) => number) =>
      this.#buckets.reduce((total, bucket) => total + of(bucket), 0);
    const doneCount = sum((bucket) => bucket.doneCount);
    return {
      doneCount,
      missedCount: sum((bucket) => bucket.missedCount),
      meanDurationMs: doneCount === 0 ? 0 : sum((bucket) => bucket.durationMs) / doneCount,
    };
  }

  #current(): Bucket {
    this.#dropOld();
    const number = this.#number();
    const last = this.#buckets.at(-1);
    if (last?.number === number) return last;
    const bucket = { number, doneCount: 0, missedCount: 0, durationMs: 0 };
    this.#buckets.push(bucket);
    return bucket;
  }

  #dropOld(): void {
    const oldest = this.#number() - BUCKET_COUNT;
    this.#buckets = this.#buckets.filter(({ number }) => number > oldest);
  }

  #number(): number {
    return Math.floor(this.#clock.monotonicMs() / this.#bucketMs);
  }
}
