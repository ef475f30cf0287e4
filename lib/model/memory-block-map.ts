import { TidemarkError } from "./errors.js";

/** One byte a block, one array a disk. */
export type BlockMap = Uint8Array[];

export function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item !== undefined) return item;
  throw new TidemarkError("INVALID_ARGUMENT", `Cannot use disk ${index}: because there is none.`);
}

export function mergeAll(from: BlockMap, into: BlockMap): void {
  from.forEach((blocks, diskIndex) => {
    const merged = at(into, diskIndex);
    blocks.forEach((mark, block) => {
      if (mark) merged[block] = 1;
    });
  });
}

export function moveAll(from: BlockMap, into: BlockMap): void {
  mergeAll(from, into);
  clearAll(from);
}

export function clearAll(map: BlockMap): void {
  for (const blocks of map) blocks.fill(0);
}

/** The content with zeroes behind it. */
export function sized(sizeBytes: number, content: ArrayLike<number>): Uint8Array {
  const whole = new Uint8Array(sizeBytes);
  whole.set(content);
  return whole;
}
