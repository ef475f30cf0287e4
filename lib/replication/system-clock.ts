import { performance } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../model/clock.js";

/** The longest timer that Node keeps without cutting it short. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The machine's clocks. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  async sleep(delayMs, signal) {
    signal?.throwIfAborted();
    const options = signal === undefined ? {} : { signal };
    const bounded = Math.min(Math.max(0, delayMs), LONGEST_TIMER_MS);
    await delay(bounded, undefined, options).catch((thrown: unknown) => {
      signal?.throwIfAborted();
      throw thrown;
    });
  },
};
