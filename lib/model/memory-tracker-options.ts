import type { DiskGeometry } from "./disk.js";
import type { EncodeSegment } from "./memory-changes.js";

export interface MemoryTrackerOptions {
  readonly disks: readonly DiskGeometry[];
  readonly encode: EncodeSegment;
  /** What the disks hold when tracking begins, unmarked. Default: zeroes. */
  readonly contents?: readonly Uint8Array[];
  readonly nowMs?: () => number;
  /** A capture that has to copy more than this breaks. */
  readonly captureBudgetBytes?: number;
}
