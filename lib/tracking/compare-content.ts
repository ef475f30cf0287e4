import {
  compareBlocks,
  type ExtentList,
  type HashBlocks,
  lengthOf,
} from "../model/block-hashes.js";
import { toTidemarkError } from "../model/errors.js";
import { intersect, subtract, unionOf } from "../model/extent-list.js";
import type { ContentPass, ContentRange } from "../model/vm-tracker.js";
import { MARK_MAPS, markedExtents } from "./marked-extents.js";
import type { TrackedDisk } from "./tracked-disk.js";

/**
 * Compares a range with the target's head. A block that was written since the head's cut
 * was marked before its new content could be read, so it is told apart afterwards.
 */
export async function compareContentOf(
  disk: TrackedDisk,
  targetId: string,
  theirs: HashBlocks,
  { fromBytes, limitBytes, signal }: ContentRange,
): Promise<ContentPass> {
  const { native, granularityBytes } = disk;
  const slot = disk.slotOf(targetId);
  const wholeBytes = Math.max(1, Math.floor(limitBytes / granularityBytes)) * granularityBytes;
  const lengthBytes = Math.min(wholeBytes, disk.sizeBytes - fromBytes);
  const ours: HashBlocks = (list, blockBytes) =>
    native.hashBlocks(Float64Array.from(list), blockBytes);
  try {
    signal?.throwIfAborted();
    const range = [fromBytes, lengthBytes];
    const { different } = await compareBlocks(range, granularityBytes, ours, theirs);
    signal?.throwIfAborted();
    const written = different.length === 0 ? [] : writtenWithin(disk, slot, range);
    const differing = subtract(different, written);
    const writtenBytes = lengthOf(different) - lengthOf(differing);
    return { nextBytes: fromBytes + lengthBytes, lengthBytes, writtenBytes, differing };
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}

function writtenWithin({ native }: TrackedDisk, slot: number, range: ExtentList): ExtentList {
  const [beginBytes = 0, lengthBytes = 0] = range;
  const within = { beginBytes, lengthBytes };
  const lists = MARK_MAPS.flatMap((map) => [...markedExtents(native, map, slot, within)]);
  return intersect(unionOf(...lists), range);
}
