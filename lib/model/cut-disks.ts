import type { CutDisk } from "./relationship.js";

type SizedDisks = readonly Pick<CutDisk, "diskId" | "sizeBytes">[];

/** Of what a delta or a point was cut. */
export function cutDisksOf({
  disks,
  excludedDisks = [],
}: {
  readonly disks: SizedDisks;
  readonly excludedDisks?: SizedDisks | undefined;
}): readonly CutDisk[] {
  return [
    ...disks.map(({ diskId, sizeBytes }) => ({ diskId, sizeBytes, isExcluded: false })),
    ...excludedDisks.map(({ diskId, sizeBytes }) => ({ diskId, sizeBytes, isExcluded: true })),
  ];
}

/** Whether a point that was cut of the one stands for a cut of the other without changes. */
export function areSameCutDisks(a: readonly CutDisk[], b: readonly CutDisk[]): boolean {
  return (
    a.length === b.length &&
    a.every((disk) => {
      const other = b.find(({ diskId }) => diskId === disk.diskId);
      return other?.sizeBytes === disk.sizeBytes && other.isExcluded === disk.isExcluded;
    })
  );
}

/** What is left of the disks that departed when the replica's head is one cut of these. */
export function stillDeparted(
  departedDiskIds: readonly string[] | undefined,
  headDisks: readonly CutDisk[] | undefined,
): readonly string[] | undefined {
  if (headDisks === undefined) return departedDiskIds;
  return departedDiskIds?.filter((diskId) => headDisks.some((disk) => disk.diskId === diskId));
}
