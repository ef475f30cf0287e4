import { type FairEntry, FairQueue, Flow } from "../model/fair-queue.js";
import type { Priority } from "../model/relationship-settings.js";

/** Who waits under one key: they enter together. */
interface Party {
  readonly key: string;
  readonly waiting: Set<() => void>;
}

/** How many relationships of a host may do a kind of work at once; by turns, and by priority. */
export class WorkTurns {
  readonly #limit: () => number;
  readonly #queue = new FairQueue<Party>();
  readonly #queued = new Map<string, FairEntry<Party>>();
  readonly #flows = new Map<string, Flow>();
  readonly #insideCounts = new Map<string, number>();

  constructor(limit: () => number) {
    this.#limit = limit;
  }

  /** Those with one key count once: the members of a group have to meet. */
  async run<T>(
    { key, priority }: { readonly key: string; readonly priority: () => Priority },
    signal: AbortSignal,
    work: () => Promise<T>,
  ): Promise<T> {
    await this.#enter(key, priority, signal);
    try {
      return await work();
    } finally {
      this.#leave(key);
    }
  }

  /** Lets in whoever may: somebody left, or the limit has changed. */
  check(): void {
    for (;;) {
      const first = this.#queue.peek();
      if (first === null || this.#insideCounts.size >= this.#limit()) return;
      const { key, waiting } = first.value;
      this.#queue.take(first);
      this.#queued.delete(key);
      this.#insideCounts.set(key, waiting.size);
      for (const enter of waiting) enter();
    }
  }

  #enter(key: string, priority: () => Priority, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const insideCount = this.#insideCounts.get(key);
    if (insideCount !== undefined) {
      this.#insideCounts.set(key, insideCount + 1);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      const entry = this.#queued.get(key) ?? this.#newEntry(key, priority);
      const onAbort = () => {
        this.#giveUp(entry, enter);
        reject(signal.reason as Error);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      entry.value.waiting.add(enter);
      this.check();
    });
  }

  #newEntry(key: string, priority: () => Priority): FairEntry<Party> {
    const flow = this.#flows.get(key) ?? new Flow(priority);
    this.#flows.set(key, flow);
    const entry = this.#queue.push(flow, 1, { key, waiting: new Set() });
    this.#queued.set(key, entry);
    return entry;
  }

  #giveUp(entry: FairEntry<Party>, enter: () => void): void {
    const { key, waiting } = entry.value;
    waiting.delete(enter);
    if (waiting.size > 0) return;
    this.#queue.drop(entry);
    this.#queued.delete(key);
  }

  #leave(key: string): void {
    const left = (this.#insideCounts.get(key) ?? 1) - 1;
    if (left > 0) this.#insideCounts.set(key, left);
    else this.#insideCounts.delete(key);
    this.check();
  }
}
