import type { SegmentPlan } from "./delta.js";
import type { DiskGeometry } from "./disk.js";

/** Cuts the set blocks of each disk into segments of at most `segmentBytes`, in disk order. */
export function planSegments(
  disks: readonly DiskGeometry[],
  blocks: readonly Uint8Array[],
  segmentBytes: number,
): SegmentPlan[] {
  const plans: SegmentPlan[] = [];
  disks.forEach((disk, diskIndex) => {
    const runs = runsOf(disk, blocks[diskIndex] ?? new Uint8Array(0), segmentBytes);
    for (const group of groupsOf(runs, segmentBytes)) {
      plans.push({
        segmentIndex: plans.length,
        diskIndex,
        extents: Float64Array.from(group.flat()),
        contentBytes: group.reduce((sum, [, lengthBytes]) => sum + lengthBytes, 0),
        granularityBytes: disk.granularityBytes,
        captureId: 0,
      });
    }
  });
  return plans;
}

type Run = [offsetBytes: number, lengthBytes: number];

/** Runs of set blocks, none longer than what fits a segment. */
function runsOf(disk: DiskGeometry, blocks: Uint8Array, segmentBytes: number): Run[] {
  const { granularityBytes, sizeBytes } = disk;
  const longest = Math.max(1, Math.floor(segmentBytes / granularityBytes)) * granularityBytes;
  const runs: Run[] = [];
  blocks.forEach((mark, block) => {
    if (!mark) return;
    const offset = block * granularityBytes;
    const length = Math.min(granularityBytes, sizeBytes - offset);
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === offset && last[1] + length <= longest) {
      last[1] += length;
    } else {
      runs.push([offset, length]);
    }
  });
  return runs;
}

function groupsOf(runs: readonly Run[], segmentBytes: number): Run[][] {
  const groups: Run[][] = [];
  let roomBytes = 0;
  for (const run of runs) {
    if (groups.length === 0 || run[1] > roomBytes) {
      groups.push([]);
      roomBytes = segmentBytes;
    }
    groups.at(-1)?.push(run);
    roomBytes -= run[1];
  }
  return groups;
}
