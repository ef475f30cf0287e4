import type { RecoveryPoint } from "../model/replica-endpoint.js";

/**
 * How long a user needs the very files that a point is made of: "passing" until it is
 * released, "lasting" also after a restart, since what was written lies on them.
 */
export type PointUse = "passing" | "lasting";

interface Holder {
  readonly pointId: string;
  readonly sequence: number;
  readonly use: PointUse;
}

interface Waiter {
  readonly holders: Set<Holder>;
  readonly end: () => void;
}

/** Who uses which recovery point: it is not given up, and its files stay until they end. */
export class Pins {
  readonly #holders = new Set<Holder>();
  readonly #waiters = new Set<Waiter>();

  /** Answers how to undo it; undoing twice counts once. */
  pin({ pointId, sequence }: RecoveryPoint, use: PointUse): () => void {
    const holder = { pointId, sequence, use };
    this.#holders.add(holder);
    return () => this.#release(holder);
  }

  get isEmpty(): boolean {
    return this.#holders.size === 0;
  }

  get hasPassing(): boolean {
    return [...this.#holders].some(({ use }) => use === "passing");
  }

  isHeld(pointId: string): boolean {
    return [...this.#holders].some((holder) => holder.pointId === pointId);
  }

  /** The newest point whose layers, and those below, have to stay as they are; 0: none. */
  get lastingSequence(): number {
    const lasting = [...this.#holders].filter(({ use }) => use === "lasting");
    return Math.max(0, ...lasting.map(({ sequence }) => sequence));
  }

  /** Resolves when those have ended who use the layers of that point now; null: nobody does. */
  whenUnused(sequence: number): Promise<void> | null {
    const holders = new Set([...this.#holders].filter((holder) => holder.sequence >= sequence));
    if (holders.size === 0) return null;
    return new Promise((end) => this.#waiters.add({ holders, end }));
  }

  #release(holder: Holder): void {
    this.#holders.delete(holder);
    for (const waiter of this.#waiters) {
      waiter.holders.delete(holder);
      if (waiter.holders.size > 0) continue;
      this.#waiters.delete(waiter);
      waiter.end();
    }
  }
}
