import type { Clock } from "../model/clock.js";

/** When a relationship's next cycle is due. */
export interface CycleSchedule {
  /** 0: it is due. */
  readonly waitMs: number;
  /** The cycle that is due begins; answers how many were missed before it. */
  begin(): number;
  /** It ended. */
  end(hadChanges: boolean): void;
  /** Counts from now on: the first cycle is due one interval later. */
  restart(): void;
}

/** Ticks that pass while a cycle is under way are lost, not made up. */
export class RegularSchedule implements CycleSchedule {
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

  get waitMs(): number {
    this.#dueMs ??= this.#aligned(this.#clock.monotonicMs());
    return Math.max(0, this.#dueMs - this.#clock.monotonicMs());
  }

  begin(): number {
    const nowMs = this.#clock.monotonicMs();
    const dueMs = this.#dueMs ?? this.#aligned(nowMs);
    const missed = Math.floor(Math.max(0, nowMs - dueMs) / this.#intervalMs);
    this.#dueMs = dueMs + (missed + 1) * this.#intervalMs;
    return missed;
  }

  end(): void {}

  restart(): void {
    this.#dueMs = this.#aligned(this.#clock.monotonicMs() + this.#intervalMs);
  }

  /** The next instant that all share, at or after this one. */
  #aligned(timeMs: number): number {
    if (!this.#isAligned) return timeMs;
    return Math.ceil(timeMs / this.#intervalMs) * this.#intervalMs;
  }
}

const SHORTEST_PAUSE_MS = 100;

/**
 * A cycle soon after the other while something changes; a disk at rest is looked at
 * less and less often, down to once an interval. Nothing can be missed.
 */
export class ContinuousSchedule implements CycleSchedule {
  readonly #clock: Clock;
  readonly #longestPauseMs: number;
  #pauseMs = SHORTEST_PAUSE_MS;
  #dueMs = 0;

  constructor(clock: Clock, intervalMs: number) {
    this.#clock = clock;
    this.#longestPauseMs = Math.max(intervalMs, SHORTEST_PAUSE_MS);
  }

  get waitMs(): number {
    return Math.max(0, this.#dueMs - this.#clock.monotonicMs());
  }

  begin(): number {
    return 0;
  }

  end(hadChanges: boolean): void {
    this.#pauseMs = hadChanges
      ? SHORTEST_PAUSE_MS
      : Math.min(2 * this.#pauseMs, this.#longestPauseMs);
    this.restart();
  }

  restart(): void {
    this.#dueMs = this.#clock.monotonicMs() + this.#pauseMs;
  }
}
