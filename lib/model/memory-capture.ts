import type { SegmentPlan } from "./delta.js";
import type { DiskGeometry } from "./disk.js";
import { TidemarkError } from "./errors.js";

/**
 * Copy-before-write in memory: a block is frozen (its content is the disk's),
 * saved (its old content is here) or released. A save beyond the budget breaks
 * the capture and never the write.
 */
export class MemoryCapture {
  readonly #contents: readonly Uint8Array[];
  readonly #disks: readonly DiskGeometry[];
  readonly #frozen: Uint8Array[];
  readonly #saved = new Map<string, Uint8Array>();
  readonly #budgetBytes: number;
  #savedBytes = 0;
  #brokenReason: string | null = null;

  constructor(
    contents: readonly Uint8Array[],
    blocks: readonly Uint8Array[],
    disks: readonly DiskGeometry[],
    budgetBytes: number,
  ) {
    this.#contents = contents;
    this.#disks = disks;
    this.#frozen = blocks.map((map) => map.slice());
    this.#budgetBytes = budgetBytes;
  }

  get brokenReason(): string | null {
    return this.#brokenReason;
  }

  saveBlock(diskIndex: number, block: number): void {
    const frozen = this.#frozen[diskIndex];
    if (!frozen?.[block] || this.#brokenReason !== null) return;
    frozen[block] = 0;
    const content = this.#blockContent(diskIndex, block).slice();
    this.#savedBytes += content.length;
    if (this.#savedBytes > this.#budgetBytes) {
      this.#brokenReason = "the capture store is full";
      this.#saved.clear();
    } else {
      this.#saved.set(`${diskIndex}:${block}`, content);
    }
  }

  /** The range as it was when the checkpoint was taken. */
  read(plan: SegmentPlan, offsetBytes: number, lengthBytes: number): Uint8Array {
    if (this.#brokenReason !== null) {
      throw new TidemarkError(
        "CAPTURE_BROKEN",
        `Cannot read the checkpoint: because ${this.#brokenReason}.`,
      );
    }
    const into = new Uint8Array(lengthBytes);
    const first = offsetBytes / plan.granularityBytes;
    for (let done = 0, block = first; done < lengthBytes; block += 1) {
      const content = this.#frozenContent(plan.diskIndex, block);
      into.set(content, done);
      done += content.length;
    }
    return into;
  }

  release(plan: SegmentPlan): void {
    for (let index = 0; index < plan.extents.length; index += 2) {
      const first = (plan.extents[index] ?? 0) / plan.granularityBytes;
      const count = Math.ceil((plan.extents[index + 1] ?? 0) / plan.granularityBytes);
      for (let block = first; block < first + count; block += 1) {
        this.#releaseBlock(plan.diskIndex, block);
      }
    }
  }

  #releaseBlock(diskIndex: number, block: number): void {
    const frozen = this.#frozen[diskIndex];
    if (frozen !== undefined) frozen[block] = 0;
    const key = `${diskIndex}:${block}`;
    this.#savedBytes -= this.#saved.get(key)?.length ?? 0;
    this.#saved.delete(key);
  }

  #frozenContent(diskIndex: number, block: number): Uint8Array {
    const saved = this.#saved.get(`${diskIndex}:${block}`);
    if (saved !== undefined) return saved;
    if (this.#frozen[diskIndex]?.[block]) return this.#blockContent(diskIndex, block);
    throw new TidemarkError("CONFLICT", "Cannot read the block: because it was released.");
  }

  #blockContent(diskIndex: number, block: number): Uint8Array {
    const granularity = this.#disks[diskIndex]?.granularityBytes ?? 0;
    const content = this.#contents[diskIndex] ?? new Uint8Array(0);
    return content.subarray(block * granularity, (block + 1) * granularity);
  }
}
