import type { Clock } from "../model/clock.js";

/** The sleeps of one loop, which somebody with news for it cuts short. */
export class Nap {
  readonly #clock: Clock;
  #alarm: AbortController | null = null;
  #isWoken = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Who does not sleep now does not fall asleep the next time. */
  wake(): void {
    this.#isWoken = true;
    this.#alarm?.abort();
  }

  /** False: woken early. Rejects with the signal's reason when that aborts. */
  async sleep(delayMs: number, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    if (this.#takeNews()) return false;
    const alarm = new AbortController();
    const end = () => alarm.abort();
    signal.addEventListener("abort", end, { once: true });
    this.#alarm = alarm;
    try {
      await this.#clock.sleep(delayMs, alarm.signal);
      return true;
    } catch (thrown) {
      signal.throwIfAborted();
      if (this.#takeNews()) return false;
      throw thrown;
    } finally {
      signal.removeEventListener("abort", end);
      this.#alarm = null;
    }
  }

  #takeNews(): boolean {
    const isWoken = this.#isWoken;
    this.#isWoken = false;
    return isWoken;
  }
}
