import type { ExtentList } from "./block-hashes.js";

/** What is marked of a disk for a target; what is in neither list is as the target has it. */
export interface DiskMarks {
  readonly diskId: string;
  /** Differs, as far as is known. */
  readonly changed: ExtentList;
  /** Nobody knows. */
  readonly suspect: ExtentList;
}

/** Of all disks of a VM together. */
export const MAX_MARKED_EXTENTS = 1 << 18;

/** All of a disk is to be compared. */
export function allSuspect(diskId: string, sizeBytes: number): DiskMarks {
  return { diskId, changed: [], suspect: [0, sizeBytes] };
}
