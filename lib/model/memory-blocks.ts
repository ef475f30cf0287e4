/** One disk's blocks: extents to marks, marks to extents. */
import { type ExtentList, lengthOf } from "./block-hashes.js";
import type { DiskGeometry } from "./disk.js";

interface Block {
  readonly block: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export function* blocksOf({ sizeBytes, granularityBytes }: DiskGeometry): Generator<Block> {
  for (let offsetBytes = 0, block = 0; offsetBytes < sizeBytes; block += 1) {
    const lengthBytes = Math.min(granularityBytes, sizeBytes - offsetBytes);
    yield { block, offsetBytes, lengthBytes };
    offsetBytes += granularityBytes;
  }
}

/** Where the marks are; no more than it takes to reach the limit. */
export function extentsOf(
  marks: Uint8Array,
  disk: DiskGeometry,
  limitBytes = Number.POSITIVE_INFINITY,
): ExtentList {
  const extents: number[] = [];
  for (const { block, offsetBytes, lengthBytes } of blocksOf(disk)) {
    if (marks[block] && lengthOf(extents) < limitBytes) extents.push(offsetBytes, lengthBytes);
  }
  return extents;
}

/** Calls `mark` with each block that begins in the extents. */
export function eachBlockOf(
  extents: ExtentList,
  disk: DiskGeometry,
  mark: (block: number) => void,
): void {
  for (let index = 0; index + 1 < extents.length; index += 2) {
    const [begin = 0, length = 0] = [extents[index], extents[index + 1]];
    for (const { block, offsetBytes } of blocksOf(disk)) {
      if (offsetBytes >= begin && offsetBytes < begin + length) mark(block);
    }
  }
}

/** Marks the blocks that are not all zero; answers how much they hold. */
export function markContent(marks: Uint8Array, disk: DiskGeometry, content: Uint8Array): number {
  let markedBytes = 0;
  for (const { block, offsetBytes, lengthBytes } of blocksOf(disk)) {
    const isZero = content
      .subarray(offsetBytes, offsetBytes + lengthBytes)
      .every((byte) => byte === 0);
    if (isZero) continue;
    marks[block] = 1;
    markedBytes += lengthBytes;
  }
  return markedBytes;
}
