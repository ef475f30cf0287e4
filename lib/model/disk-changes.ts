import type { DiskGeometry, ReplicatedVm } from "./disk.js";

/**
 * Whether a VM that had the disks `former` may have `present` now. Disks come and go, and are
 * resized; those that stay never get finer blocks, and without a resize keep theirs. What
 * tells one VM from another is its generation.
 */
export function mayBecome(
  former: readonly DiskGeometry[],
  present: readonly DiskGeometry[],
): boolean {
  return present.every((disk) => {
    const before = former.find(({ diskId }) => diskId === disk.diskId);
    return before === undefined || isSameOrResized(before, disk);
  });
}

function isSameOrResized(former: DiskGeometry, present: DiskGeometry): boolean {
  if (former.sizeBytes === present.sizeBytes) {
    return former.granularityBytes === present.granularityBytes;
  }
  return former.granularityBytes <= present.granularityBytes;
}

/** Whether two of them have one id, or one name. */
export function haveTwins({
  disks,
  excludedDisks = [],
}: Pick<ReplicatedVm, "disks" | "excludedDisks">): boolean {
  const all = [...disks, ...excludedDisks];
  const ids = new Set(all.map(({ diskId }) => diskId));
  const names = new Set(all.map(({ name }) => name));
  return ids.size < all.length || names.size < all.length;
}

/** The VM with the disks of a delta. */
export function withDisks(
  { vmId, name }: ReplicatedVm,
  { disks, excludedDisks = [] }: Pick<ReplicatedVm, "disks" | "excludedDisks">,
): ReplicatedVm {
  return { vmId, name, disks, ...(excludedDisks.length === 0 ? {} : { excludedDisks }) };
}
