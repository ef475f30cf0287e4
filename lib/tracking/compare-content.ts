import {
  compareBlocks,
  type ExtentList,
  type HashBlocks,
  lengthOf,
} from "../model/block-hashes.js";
import { toTidemarkError } from "../model/errors.js";
import { intersect, subtract, unionOf } from "../model/extent-list.js";
import type { ContentPass, ContentRange } from "../model/vm-tracker.js";
import type { MapKind } from "./binding.js";
import type { TrackedDisk } from "./tracked-disk.js";

/**
 * In the order in which a mark may move on while they are looked at; each move marks its
 * destination before it clears its source.
 */
const MAPS: readonly MapKind[] = ["live", "pending", "inFlight", "staged", "suspect"];
const EXTENTS_AT_ONCE = 1024;

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

function writtenWithin(disk: TrackedDisk, slot: number, range: ExtentList): ExtentList {
  const lists = MAPS.map((map) => marksWithin(disk, map, slot, range));
  return intersect(unionOf(...lists), range);
}

function marksWithin(disk: TrackedDisk, map: MapKind, slot: number, range: ExtentList): number[] {
  const [begin = 0, length = 0] = range;
  const extents: number[] = [];
  for (let at = begin; at < begin + length; ) {
    const pairs = disk.native.dirtyExtents(map, slot, at, EXTENTS_AT_ONCE, length);
    if (pairs.length === 0) break;
    extents.push(...pairs);
    at = (extents.at(-2) ?? 0) + (extents.at(-1) ?? 0);
  }
  return extents;
}
