import type { Clock } from "../model/clock.js";
import { type FairEntry, FairQueue, type Flow } from "../model/fair-queue.js";
import { TokenBucket } from "./token-bucket.js";

/** The longest sleep: the rate is looked at again. */
const LONGEST_WAIT_MS = 1000;

export interface TransferLimits {
  /** Null: no limit. */
  readonly bytesPerSecond: () => number | null;
  readonly parallelCount: () => number;
}

/** The right to send; settled exactly once. */
export interface Permit {
  /** How much did travel. */
  settle(sentBytes: number): void;
}

interface Claim {
  readonly flow: Flow;
  readonly bytes: number;
  readonly admit: (permit: Permit) => void;
}

/** Who may send next where several share a line: so many at once, so many bytes a second, by turns. */
export class TransferTurns {
  readonly #clock: Clock;
  readonly #limits: TransferLimits;
  readonly #bucket: TokenBucket;
  readonly #queue = new FairQueue<Claim>();
  #alarm: AbortController | null = null;
  #underWay = 0;

  constructor(clock: Clock, limits: TransferLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#bucket = new TokenBucket(clock, limits.bytesPerSecond);
  }

  /** Resolves when it is the claim's turn. `bytes`: the most that it can take. */
  admit(flow: Flow, bytes: number, signal?: AbortSignal): Promise<Permit> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const onAbort = () => {
        this.#queue.drop(entry);
        flow.advance(-bytes);
        reject(signal?.reason as Error);
        this.check();
      };
      const admit = (permit: Permit) => {
        signal?.removeEventListener("abort", onAbort);
        resolve(permit);
      };
      const entry = this.#queue.push(flow, bytes, { flow, bytes, admit });
      signal?.addEventListener("abort", onAbort, { once: true });
      this.check();
    });
  }

  /** Lets through whoever may go: something ended, or the limits have changed. */
  check(): void {
    this.#alarm?.abort();
    this.#alarm = null;
    for (;;) {
      const first = this.#queue.peek();
      if (first === null || this.#underWay >= this.#limits.parallelCount()) return;
      const waitMs = this.#bucket.waitMs(first.value.bytes);
      if (waitMs > 0) return this.#checkAfter(waitMs);
      this.#let(first);
    }
  }

  #checkAfter(waitMs: number): void {
    const alarm = new AbortController();
    this.#alarm = alarm;
    this.#clock.sleep(Math.min(waitMs, LONGEST_WAIT_MS), alarm.signal).then(
      () => this.check(),
      () => {},
    );
  }

  #let(entry: FairEntry<Claim>): void {
    const { flow, bytes, admit } = entry.value;
    this.#queue.take(entry);
    this.#underWay += 1;
    this.#bucket.take(bytes);
    const settle = (sentBytes: number) => {
      const unsentBytes = bytes - sentBytes;
      this.#underWay -= 1;
      this.#bucket.putBack(unsentBytes);
      flow.advance(-unsentBytes);
      this.check();
    };
    admit({ settle });
  }
}
