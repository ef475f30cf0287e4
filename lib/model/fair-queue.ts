/**
 * Who is next, where several wait for the same. Start-time fair queueing: each flow has a
 * virtual time that runs ahead by what it was given over its weight, and the entry that
 * begins earliest is first. So who was given little is before who was given much, nobody
 * waits for ever, and a rest earns no credit.
 */
import type { Priority } from "./relationship-settings.js";

const WEIGHTS: Readonly<Record<Priority, number>> = { low: 1, normal: 4, high: 16 };

/** All entries of one waiter. */
export class Flow {
  readonly #priority: () => Priority;
  /** In the queue's virtual time. */
  finish = 0;

  constructor(priority: () => Priority) {
    this.#priority = priority;
  }

  /** It was given so much; less when negative. */
  advance(cost: number): void {
    this.finish += cost / WEIGHTS[this.#priority()];
  }
}

export interface FairEntry<T> {
  readonly start: number;
  readonly value: T;
}

export class FairQueue<T> {
  readonly #entries = new Set<FairEntry<T>>();
  #virtualTime = 0;

  push(flow: Flow, cost: number, value: T): FairEntry<T> {
    const entry = { start: Math.max(this.#virtualTime, flow.finish), value };
    flow.finish = entry.start;
    flow.advance(cost);
    this.#entries.add(entry);
    return entry;
  }

  /** The first; of those that begin together the one that came first. */
  peek(): FairEntry<T> | null {
    let first: FairEntry<T> | null = null;
    for (const entry of this.#entries) {
      if (first === null || entry.start < first.start) first = entry;
    }
    return first;
  }

  /** It had its turn. */
  take(entry: FairEntry<T>): void {
    this.#entries.delete(entry);
    this.#virtualTime = Math.max(this.#virtualTime, entry.start);
  }

  /** It waits no more. */
  drop(entry: FairEntry<T>): void {
    this.#entries.delete(entry);
  }
}
