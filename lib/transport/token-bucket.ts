import type { Clock } from "../model/clock.js";

/** A burst that a bucket allows after a rest, as a time at its rate. */
const BURST_MS = 500;
const SMALLEST_BURST_BYTES = 320 * 1024;

export function burstBytes(bytesPerSecond: number): number {
  return Math.max(SMALLEST_BURST_BYTES, (bytesPerSecond * BURST_MS) / 1000);
}

/**
 * Bytes that may travel: filled at the rate that holds now, up to a burst. Never more goes
 * out in any time t than rate * t and one burst; a claim above the burst waits for a full
 * bucket and leaves a debt.
 */
export class TokenBucket {
  readonly #clock: Clock;
  readonly #bytesPerSecond: () => number | null;
  #tokens = Number.POSITIVE_INFINITY;
  #filledAtMs: number;

  /** Null: no limit. */
  constructor(clock: Clock, bytesPerSecond: () => number | null) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#filledAtMs = clock.monotonicMs();
  }

  /** 0: it may be taken now. At most; another rate may hold before that. */
  waitMs(bytes: number): number {
    const rate = this.#fill();
    if (rate === null) return 0;
    const lackingBytes = Math.min(bytes, burstBytes(rate)) - this.#tokens;
    return lackingBytes <= 0 ? 0 : Math.max(1, (lackingBytes / rate) * 1000);
  }

  take(bytes: number): void {
    if (this.#fill() !== null) this.#tokens -= bytes;
  }

  /** What was taken and did not travel. */
  putBack(bytes: number): void {
    const rate = this.#fill();
    if (rate !== null) this.#tokens = Math.min(burstBytes(rate), this.#tokens + bytes);
  }

  #fill(): number | null {
    const nowMs = this.#clock.monotonicMs();
    const elapsedMs = nowMs - this.#filledAtMs;
    this.#filledAtMs = nowMs;
    const rate = this.#bytesPerSecond();
    this.#tokens =
      rate === null
        ? Number.POSITIVE_INFINITY
        : Math.min(burstBytes(rate), this.#tokens + (rate * elapsedMs) / 1000);
    return rate;
  }
}
