/** What changed between two recovery points. */
import type { ExtentList } from "./block-hashes.js";

export interface DiskDifference {
  readonly diskId: string;
  readonly name: string;
  readonly fromSizeBytes: number;
  readonly toSizeBytes: number;
  /** By the layers' indexes: what was written, also with the same content. */
  readonly changedBytes: number;
  /** By the bytes; null when they were not compared. */
  readonly differingBytes: number | null;
  /** What differs where that was looked at, else what changed; the first of them. */
  readonly extents: ExtentList;
  readonly isCutOff: boolean;
}

export interface PointDifference {
  readonly fromSequence: number;
  readonly toSequence: number;
  readonly changedBytes: number;
  readonly differingBytes: number | null;
  readonly disks: readonly DiskDifference[];
}
