import type { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { Random } from "./random.js";
import { GRANULARITY } from "./scene.js";

/** The VM's guest on the primary, which outlives the primary's process. */
export class Guest {
  /** Whether it reaches the disks. */
  isServed = true;
  /** In whole blocks, each write by itself. */
  writtenBytes = 0;
  readonly #tracker: MemoryVmTracker;
  readonly #random: Random;
  readonly #rewriting: Random | null;
  #counter = 0;

  constructor(tracker: MemoryVmTracker, random: Random, rewriting: Random | null) {
    this.#tracker = tracker;
    this.#random = random;
    this.#rewriting = rewriting;
  }

  async serve(isServed: boolean): Promise<void> {
    this.isServed = isServed;
  }

  write(): void {
    if (!this.isServed) return;
    const diskIndex = this.#random.below(this.#tracker.disks.length);
    const size = this.#tracker.disks[diskIndex]?.sizeBytes ?? 0;
    const offset = this.#random.below(size);
    const length = 1 + this.#random.below(Math.min(3 * GRANULARITY, size - offset));
    this.#counter += 1;
    const data = Buffer.alloc(length);
    if (this.#random.chance(0.9)) for (let i = 0; i < length; i += 1) data[i] = this.#counter + i;
    // Few contents: what comes back is often what the replica has, or had.
    if (this.#rewriting?.chance(0.7) === true) data.fill(this.#rewriting.below(3));
    this.writtenBytes += Math.ceil(length / GRANULARITY + 1) * GRANULARITY;
    this.#tracker.write(diskIndex, offset, data);
  }
}
