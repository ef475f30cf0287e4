import type { SegmentPlan } from "../model/delta.js";
import type { DiskGeometry } from "../model/disk.js";

/** Bytes by the disk's name. */
export type DiskBytes = Readonly<Record<string, number>>;

/** How much of each disk the segments carry; disks without changes are left out. */
export function changedByDisk(
  disks: readonly DiskGeometry[],
  segments: readonly SegmentPlan[],
): DiskBytes {
  const sums: Record<string, number> = {};
  for (const { diskIndex, contentBytes } of segments) {
    const name = disks[diskIndex]?.name ?? String(diskIndex);
    sums[name] = (sums[name] ?? 0) + contentBytes;
  }
  return sums;
}

export function addDiskBytes(one: DiskBytes, other: DiskBytes): DiskBytes {
  const sums: Record<string, number> = { ...one };
  for (const [name, bytes] of Object.entries(other)) sums[name] = (sums[name] ?? 0) + bytes;
  return sums;
}
