import type { ExtentList } from "./block-hashes.js";

export interface BoundedExtents {
  readonly extents: ExtentList;
  /** False: there were too many, and they are rounded out to coarser grains. */
  readonly isExact: boolean;
}

/** Of ascending extents that begin and end on grains, as they come; never holds many more than the limit. */
export function boundedExtents(
  pages: Iterable<ExtentList>,
  grainBytes: number,
  maxExtents: number,
): BoundedExtents {
  let grain = grainBytes;
  let extents: number[] = [];
  for (const page of pages) {
    append(extents, page, grain);
    while (extents.length > 2 * maxExtents) {
      grain *= 2;
      const finer = extents;
      extents = [];
      append(extents, finer, grain);
    }
  }
  return { extents, isExact: grain === grainBytes };
}

/** Joined with the last one where they meet. */
function append(extents: number[], added: ExtentList, grain: number): void {
  for (let i = 0; i + 1 < added.length; i += 2) {
    const [offset = 0, length = 0] = [added[i], added[i + 1]];
    const begin = Math.floor(offset / grain) * grain;
    const end = Math.ceil((offset + length) / grain) * grain;
    const [lastBegin = 0, lastLength = 0] = extents.slice(-2);
    if (extents.length > 0 && begin <= lastBegin + lastLength) {
      extents[extents.length - 1] = Math.max(lastLength, end - lastBegin);
    } else {
      extents.push(begin, end - begin);
    }
  }
}
