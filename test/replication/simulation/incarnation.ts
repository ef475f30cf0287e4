import type { Clock } from "#lib/model/clock.js";

/**
 * The life of one primary process. After kill() nothing reaches it any more:
 * its calls have no answers and its clock stands still, but what it sent before
 * may still arrive.
 */
export class Incarnation {
  #isDead = false;
  /** While it is paused: resolves when it goes on. */
  #pause: Promise<void> = Promise.resolve();
  #isPaused = false;

  get isDead(): boolean {
    return this.#isDead;
  }

  kill(): void {
    this.#isDead = true;
  }

  /** Hangs until then, as under SIGSTOP: nothing reaches it, what it sent goes on. */
  pause(until: Promise<void>): void {
    this.#isPaused = true;
    this.#pause = until.then(() => {
      this.#isPaused = false;
    });
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** The call's answer, unless the process has died by then. */
  answer<T>(call: () => Promise<T>): Promise<T> {
    if (this.#isDead) return new Promise<T>(() => {});
    return new Promise<T>((resolve, reject) => {
      call().then(
        (value) => this.#pause.then(() => this.#isDead || resolve(value)),
        (error: Error) => this.#pause.then(() => this.#isDead || reject(error)),
      );
    });
  }

  clock(inner: Clock): Clock {
    return {
      nowMs: () => inner.nowMs(),
      monotonicMs: () => inner.monotonicMs(),
      sleep: (delayMs, signal) => this.answer(() => inner.sleep(delayMs, signal)),
    };
  }
}
