import type { DiskGeometry } from "./disk.js";

/**
 * Whether `present` are the disks of `former`, resized or not. Blocks never become finer;
 * without a resize they stay as they are.
 */
export function sameOrResized(
  former: readonly DiskGeometry[],
  present: readonly DiskGeometry[],
): boolean {
  return (
    former.length === present.length &&
    former.every((disk, index) => {
      const now = present[index];
      return now !== undefined && isSameOrResized(disk, now);
    })
  );
}

function isSameOrResized(former: DiskGeometry, present: DiskGeometry): boolean {
  if (former.diskId !== present.diskId || former.name !== present.name) return false;
  if (former.sizeBytes === present.sizeBytes) {
    return former.granularityBytes === present.granularityBytes;
  }
  return former.granularityBytes <= present.granularityBytes;
}
