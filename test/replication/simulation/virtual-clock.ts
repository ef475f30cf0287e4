import type { Clock } from "#lib/model/clock.js";

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  readonly fire: () => void;
}

const WALL_START_MS = 1_700_000_000_000;

/** Time that moves only when told to, from one timer to the next. */
export class VirtualClock implements Clock {
  #nowMs = 0;
  #wallOffsetMs = 0;
  #order = 0;
  readonly #timers = new Set<Timer>();

  nowMs(): number {
    return WALL_START_MS + this.#wallOffsetMs + Math.floor(this.#nowMs);
  }

  /** Somebody sets the wall clock, forward or back; what waits does not notice. */
  setWallClock(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  get timerCount(): number {
    return this.#timers.size;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const onAbort = () => {
        this.#timers.delete(timer);
        reject(signal?.reason as Error);
      };
      this.#order += 1;
      const timer: Timer = {
        dueMs: this.#nowMs + Math.max(0, delayMs),
        order: this.#order,
        fire: () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      this.#timers.add(timer);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Moves to the next timer and fires it; false when there is none. */
  step(): boolean {
    let next: Timer | null = null;
    for (const timer of this.#timers) {
      const earlier = next === null || timer.dueMs < next.dueMs;
      const sameButFirst = next?.dueMs === timer.dueMs && timer.order < next.order;
      if (earlier || sameButFirst) next = timer;
    }
    if (next === null) return false;
    this.#timers.delete(next);
    this.#nowMs = Math.max(this.#nowMs, next.dueMs);
    next.fire();
    return true;
  }

  /** Fires everything that is due within the span, letting promises settle in between. */
  async run(spanMs: number): Promise<void> {
    const untilMs = this.#nowMs + spanMs;
    await settle();
    while ([...this.#timers].some((timer) => timer.dueMs <= untilMs)) {
      this.step();
      await settle();
    }
    this.#nowMs = untilMs;
  }
}

/** Lets every promise that can go on without the clock go on. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
