import { compareBlocks, type HashBlocks, lengthOf } from "../model/block-hashes.js";
import { toTidemarkError } from "../model/errors.js";
import type { ComparisonPass } from "../model/vm-tracker.js";
import type { TrackedDisk } from "./tracked-disk.js";

const MAX_EXTENTS = 1024;

/**
 * One pass over a disk. The order that makes it right while the disk is written to
 * is that of native/tracking/tracked_device.h: begin, read, settle.
 */
export async function compareSuspectsOf(
  disk: TrackedDisk,
  targetId: string,
  theirs: HashBlocks,
  { limitBytes, signal }: { readonly limitBytes: number; readonly signal?: AbortSignal },
): Promise<ComparisonPass> {
  const { native } = disk;
  const slot = disk.slotOf(targetId);
  try {
    signal?.throwIfAborted();
    const suspicionCount = await native.beginComparison(slot);
    const extents = suspectExtents(disk, slot, limitBytes);
    const ours: HashBlocks = (list, blockBytes) =>
      native.hashBlocks(Float64Array.from(list), blockBytes);
    const { equal, different } = await compareBlocks(extents, disk.granularityBytes, ours, theirs);
    signal?.throwIfAborted();
    const isSettled = await native.settleComparison(
      slot,
      suspicionCount,
      Float64Array.from(equal),
      Float64Array.from(different),
    );
    return {
      comparedBytes: lengthOf(extents),
      differingBytes: isSettled ? lengthOf(different) : 0,
      isOvertaken: !isSettled,
    };
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}

/** About `limitBytes`, in whole blocks. */
function suspectExtents(disk: TrackedDisk, slot: number, limitBytes: number): number[] {
  const { granularityBytes } = disk;
  const wholeBytes = Math.max(1, Math.floor(limitBytes / granularityBytes)) * granularityBytes;
  const pairs = disk.native.dirtyExtents("suspect", slot, 0, MAX_EXTENTS, wholeBytes);
  const extents: number[] = [];
  for (let index = 0, leftBytes = wholeBytes; index < pairs.length && leftBytes > 0; index += 2) {
    const length = Math.min(pairs[index + 1] ?? 0, leftBytes);
    extents.push(pairs[index] ?? 0, length);
    leftBytes -= length;
  }
  return extents;
}
