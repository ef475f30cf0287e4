import type { Clock } from "../model/clock.js";

/** Keeps a verification slow, and lets it be paused. */
export class ScrubPace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** What was read until now may have been read by then. */
  #paidUntilMs = 0;
  #isPaused = false;
  #waiters = new Set<() => void>();

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    for (const waiter of this.#waiters) waiter();
    this.#waiters.clear();
  }

  /** After `bytes` were read: waits as long as they may take, and while it is paused. */
  async spend(bytes: number, signal: AbortSignal): Promise<void> {
    const now = this.#clock.monotonicMs();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, now) + (bytes / this.#bytesPerSecond) * 1000;
    const delayMs = this.#paidUntilMs - now;
    if (delayMs > 0) await this.#clock.sleep(delayMs, signal);
    while (this.#isPaused) await this.#resumed(signal);
    signal.throwIfAborted();
  }

  #resumed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason as Error);
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiters.add(() => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      });
    });
  }
}
