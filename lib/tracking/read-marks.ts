import type { ExtentList } from "../model/block-hashes.js";
import { type BoundedExtents, boundedExtents } from "../model/bounded-extents.js";
import { type DiskMarks, MAX_MARKED_EXTENTS } from "../model/disk-marks.js";
import { unionOf } from "../model/extent-list.js";
import { MARK_MAPS, markedExtents } from "./marked-extents.js";
import type { TrackedDisk } from "./tracked-disk.js";

/**
 * What is marked of the disk for the target, in at most its share of the VM's extents:
 * where marks are too scattered for that, they are rounded out and to be compared. Null:
 * the disk does not have the target.
 */
export function readMarksOf(
  disk: TrackedDisk,
  targetId: string,
  diskCount: number,
): DiskMarks | null {
  const { diskId, granularityBytes } = disk;
  const target = disk.targets().find((one) => one.targetId === targetId);
  if (target === undefined) return null;
  const slot = disk.slotOf(targetId);
  const limit = Math.floor(MAX_MARKED_EXTENTS / 2 / diskCount);
  const range = { beginBytes: 0, lengthBytes: disk.sizeBytes };
  const bounded = (pages: Iterable<ExtentList>) => boundedExtents(pages, granularityBytes, limit);
  const read = MARK_MAPS.map((map) => bounded(markedExtents(disk.native, map, slot, range)));
  const suspects = read.pop();
  const changed = joined(read, bounded);
  const suspect = joined(suspects === undefined ? [] : [suspects], bounded);
  if (changed.isExact) return { diskId, changed: changed.extents, suspect: suspect.extents };
  const both = bounded([unionOf(changed.extents, suspect.extents)]);
  return { diskId, changed: [], suspect: both.extents };
}

function joined(
  lists: readonly BoundedExtents[],
  bounded: (pages: Iterable<ExtentList>) => BoundedExtents,
): BoundedExtents {
  const { extents, isExact } = bounded([unionOf(...lists.map((list) => list.extents))]);
  return { extents, isExact: isExact && lists.every((list) => list.isExact) };
}
