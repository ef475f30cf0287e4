/** An online comparison of a VM's disks with its replica. */
import type { ExtentList } from "./block-hashes.js";

export interface DiskComparison {
  readonly diskId: string;
  readonly name: string;
  readonly differingBytes: number;
  /** The first of what differs. */
  readonly extents: ExtentList;
}

export interface ComparisonReport {
  /** "running" also while it waits for replication to go on. */
  readonly state: "running" | "done" | "stopped";
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  /** What differs was marked, so that the next recovery point brings it. */
  readonly isRepair: boolean;
  readonly comparedBytes: number;
  readonly totalBytes: number;
  /** Written while it was compared: they travel anyhow. */
  readonly writtenBytes: number;
  readonly differingBytes: number;
  /** The recovery points that were the newest when pieces were compared with them. */
  readonly firstPointId: string | null;
  readonly lastPointId: string | null;
  readonly disks: readonly DiskComparison[];
  /** Why it does not get on, while that is so. */
  readonly waitsFor: string | null;
}
