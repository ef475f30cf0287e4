import type { DiskGeometry } from "./disk.js";

/**
 * Whether `present` are the disks of `former`, each as large or larger: a disk
 * never shrinks. A larger one may have coarser blocks.
 */
export function sameOrGrown(
  former: readonly DiskGeometry[],
  present: readonly DiskGeometry[],
): boolean {
  return (
    former.length === present.length &&
    former.every((disk, index) => {
      const now = present[index];
      return now !== undefined && isSameOrGrown(disk, now);
    })
  );
}

function isSameOrGrown(former: DiskGeometry, present: DiskGeometry): boolean {
  if (former.diskId !== present.diskId || former.name !== present.name) return false;
  if (former.sizeBytes === present.sizeBytes) {
    return former.granularityBytes === present.granularityBytes;
  }
  return (
    former.sizeBytes < present.sizeBytes && former.granularityBytes <= present.granularityBytes
  );
}
