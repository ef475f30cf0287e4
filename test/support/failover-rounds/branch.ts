import { BLOCK_BYTES, readStamp, stampBlock } from "../stamped-blocks.js";

/** One of a guest's writes; each is issued when the one before is acknowledged. */
export interface Write {
  /** No other write has it, of whatever branch. */
  readonly sequence: number;
  readonly diskIndex: number;
  readonly blockIndex: number;
  readonly blockCount: number;
  /** Infinite until it is acknowledged. */
  ackedAtMs: number;
  /** Its connection was lost: until it is acknowledged it may be there in part. */
  wasInterrupted: boolean;
}

export interface Finding {
  /** How many writes of the branch are there. */
  readonly length: number;
  /** Each a sentence; none when it is a prefix of the branch that is long enough. */
  readonly faults: readonly string[];
}

/**
 * What one host wrote to a VM's disks since it had them: the images that it began with,
 * and its writes in their order. Whatever is read of the VM must be such images with a
 * prefix of the writes over them; told from this alone.
 */
export class Branch {
  readonly name: string;
  readonly images: readonly Buffer[];
  readonly writes: Write[] = [];

  constructor(name: string, images: readonly Buffer[]) {
    this.name = name;
    this.images = images.map((image) => Buffer.from(image));
  }

  /** How many of its writes were acknowledged before that time. */
  ackedBefore(timeMs: number): number {
    return this.writes.findLastIndex(({ ackedAtMs }) => ackedAtMs < timeMs) + 1;
  }

  /** All that was acknowledged until now. */
  get ackedLength(): number {
    return this.ackedBefore(Number.POSITIVE_INFINITY);
  }

  judge(what: string, disks: readonly Buffer[], atLeast: number): Finding {
    const length = this.#lengthIn(disks);
    const faults: string[] = [];
    if (length < atLeast) faults.push(`it ends at write ${length}, but must hold ${atLeast}`);
    const expected = this.images.map((image) => new Uint32Array(image.length / BLOCK_BYTES));
    for (const write of this.writes.slice(0, Math.max(0, length - 1))) apply(write, expected);
    const last = this.writes[length - 1];
    for (const [diskIndex, disk] of disks.entries()) {
      faults.push(...this.#faultsOf(disk, diskIndex, expected[diskIndex], last));
    }
    return { length, faults: faults.map((fault) => `${what}, of ${this.name}: ${fault}.`) };
  }

  #lengthIn(disks: readonly Buffer[]): number {
    const places = new Map(this.writes.map(({ sequence }, index) => [sequence, index + 1]));
    let length = 0;
    for (const [diskIndex, disk] of disks.entries()) {
      for (let at = 0; at < disk.length; at += BLOCK_BYTES) {
        const stamp = readStamp(disk.subarray(at, at + BLOCK_BYTES));
        const isInPlace = stamp?.diskIndex === diskIndex && stamp.blockIndex === at / BLOCK_BYTES;
        if (isInPlace) length = Math.max(length, places.get(stamp.sequence) ?? 0);
      }
    }
    return length;
  }

  #faultsOf(
    disk: Buffer,
    diskIndex: number,
    expected: Uint32Array | undefined,
    last: Write | undefined,
  ): string[] {
    const faults: string[] = [];
    const size = this.images[diskIndex]?.length;
    if (size !== disk.length)
      faults.push(`disk ${diskIndex} has ${disk.length} bytes, not ${size}`);
    for (let blockIndex = 0; blockIndex * BLOCK_BYTES < disk.length; blockIndex += 1) {
      const allowed = allowedAt(expected?.[blockIndex] ?? 0, last, { diskIndex, blockIndex });
      if (allowed.some((sequence) => this.#holds(disk, diskIndex, blockIndex, sequence))) continue;
      const at = blockIndex * BLOCK_BYTES;
      const found = readStamp(disk.subarray(at, at + BLOCK_BYTES))?.sequence ?? "nothing whole";
      const wanted = allowed.join(" or ");
      faults.push(`block ${blockIndex} of disk ${diskIndex} is of ${found}, not of ${wanted}`);
    }
    return faults.slice(0, 5);
  }

  /** 0: what the image has there. */
  #holds(disk: Buffer, diskIndex: number, blockIndex: number, sequence: number): boolean {
    const at = blockIndex * BLOCK_BYTES;
    if (sequence === 0) {
      return (
        this.images[diskIndex]?.compare(disk, at, at + BLOCK_BYTES, at, at + BLOCK_BYTES) === 0
      );
    }
    stampBlock({ diskIndex, blockIndex, sequence }, SCRATCH);
    return SCRATCH.compare(disk, at, at + BLOCK_BYTES) === 0;
  }
}

const SCRATCH = Buffer.alloc(BLOCK_BYTES);

function apply({ diskIndex, blockIndex, blockCount, sequence }: Write, disks: Uint32Array[]): void {
  disks[diskIndex]?.fill(sequence, blockIndex, blockIndex + blockCount);
}

function allowedAt(
  before: number,
  last: Write | undefined,
  place: { readonly diskIndex: number; readonly blockIndex: number },
): readonly number[] {
  if (last === undefined || last.diskIndex !== place.diskIndex) return [before];
  const offset = place.blockIndex - last.blockIndex;
  if (offset < 0 || offset >= last.blockCount) return [before];
  const isWhole = last.ackedAtMs < Number.POSITIVE_INFINITY && !last.wasInterrupted;
  return isWhole ? [last.sequence] : [before, last.sequence];
}
