/** An existing disk at the replica, from which a first copy begins (docs/initial-copy.md). */
import type { SegmentReceipt } from "./delta.js";
import type { SegmentSlot } from "./segment-receiver.js";

/** A file or block device that holds what a disk of the VM once held. */
export interface SeedDisk {
  /** Of the VM's disk: its name or id. */
  readonly name: string;
  readonly path: string;
}

/** What of a file becomes one segment. Structured-cloneable. */
export interface FilePart {
  readonly path: string;
  readonly deltaId: string;
  readonly diskIndex: number;
  readonly segmentIndex: number;
  readonly granularityBytes: number;
  readonly diskSizeBytes: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Fills a slot with what of the part is not zero; null: nothing is. */
export type FillFromFile = (
  slot: SegmentSlot,
  part: FilePart,
  signal?: AbortSignal,
) => Promise<SegmentReceipt | null>;
