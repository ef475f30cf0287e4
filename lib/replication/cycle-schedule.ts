import type { Clock } from "../model/clock.js";

/** When the next cycle is due; ticks that pass while one is under way are lost, not made up. */
export class CycleSchedule {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #isAligned: boolean;
  #dueMs: number | null = null;

  /** `isAligned`: all such schedules of one interval and clock are due at the same instants. */
  constructor(clock: Clock, intervalMs: number, isAligned = false) {
    this.#clock = clock;
    this.#intervalMs = intervalMs;
    this.#isAligned = isAligned;
  }

  /** Counts from now on: the first cycle is due one interval later. */
  restart(): void {
    this.#dueMs = this.#aligned(this.#clock.monotonicMs() + this.#intervalMs);
  }

  /** Resolves when a cycle is due; answers how many were missed before it. */
  async wait(signal: AbortSignal): Promise<number> {
    this.#dueMs ??= this.#aligned(this.#clock.monotonicMs());
    const aheadMs = this.#dueMs - this.#clock.monotonicMs();
    if (aheadMs > 0) await this.#clock.sleep(aheadMs, signal);
    const lateMs = Math.max(0, this.#clock.monotonicMs() - this.#dueMs);
    const missed = Math.floor(lateMs / this.#intervalMs);
    this.#dueMs += (missed + 1) * this.#intervalMs;
    return missed;
  }

  /** The next instant that all share, at or after this one. */
  #aligned(timeMs: number): number {
    if (!this.#isAligned) return timeMs;
    return Math.ceil(timeMs / this.#intervalMs) * this.#intervalMs;
  }
}
