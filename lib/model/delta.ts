import type { DiskGeometry, Generation } from "./disk.js";
import type { GroupCut } from "./group-cut.js";

export const DELTA_FORMAT_VERSION = 1;

/** The instant at which a checkpoint cut the VM's disks. */
export interface Cut {
  /** Counts the checkpoints of this VM, from 1. */
  readonly sequence: number;
  readonly takenAtMs: number;
  readonly pauseNs: number;
  /** Writes that were under way at the backings when the gates closed. */
  readonly requestsInFlight: number;
  readonly consistency: "crash" | "application";
  /** Absent: of this VM alone. */
  readonly group?: GroupCut | undefined;
}

/**
 * One attempt to bring a target to a cut ("point"), or one pass of a drain into
 * a staging session ("staging").
 */
export interface DeltaHeader {
  readonly formatVersion: typeof DELTA_FORMAT_VERSION;
  /** UUID; also the id of the recovery point that a commit of this delta makes. */
  readonly deltaId: string;
  /** From 1; a later attempt of the same delta supersedes the earlier ones. */
  readonly attempt: number;
  readonly kind: "point" | "staging";
  readonly vmId: string;
  readonly generation: Generation;
  /** The recovery point that must be the replica's head; null when it must have none. */
  readonly parentPointId: string | null;
  /** The staging session that this delta adds to or, for a point, takes in. */
  readonly stagingSessionId: string | null;
  readonly cut: Cut;
  readonly disks: readonly DiskGeometry[];
  /** Those of the VM that are not replicated; absent: none. */
  readonly excludedDisks?: readonly DiskGeometry[] | undefined;
  readonly segmentCount: number;
}

/**
 * Which blocks travel in a segment: fixed once planned. Structured-cloneable, so
 * that lanes in worker threads can be handed one.
 */
export interface SegmentPlan {
  readonly segmentIndex: number;
  readonly diskIndex: number;
  /** [offset, length, offset, length, ...] in bytes, ascending, not overlapping. */
  readonly extents: Float64Array;
  /** Sum of the lengths. */
  readonly contentBytes: number;
  readonly granularityBytes: number;
  /** Process-wide id of the native capture that the content is read from; 0 for sources without one. */
  readonly captureId: number;
}

/** A plan and a way to its record bytes (docs/formats/delta-stream.md), for use in this thread. */
export interface SegmentSource {
  readonly deltaId: string;
  readonly plan: SegmentPlan;
  /** May be called again for a retry; the same blocks, the same content. */
  records(signal?: AbortSignal): AsyncIterable<Uint8Array>;
}

/** What a replica answers when a segment is durable there. */
export interface SegmentReceipt {
  readonly segmentIndex: number;
  /** SHA-256 of the uncompressed record bytes or of their XXH3, hex (segment-digest.ts). */
  readonly sha256: string;
  /** Bytes of block content that were not zero. */
  readonly dataBytes: number;
  readonly zeroBytes: number;
  /** Bytes that travelled, compressed; equal to the record bytes where nothing compresses. */
  readonly wireBytes: number;
}

/** Thrown-away state of a reader of segments: receives the record bytes of one segment. */
export interface SegmentSink {
  /**
   * In order; CORRUPT, TRUNCATED, INVALID_ARGUMENT, NO_SPACE, thrown or rejected. The bytes
   * are the caller's again when it returns or, if it answers a promise, when that resolves.
   */
  write(recordBytes: Uint8Array): Promise<void> | undefined;
  /** After the END record: makes the segment durable. */
  finish(): Promise<Omit<SegmentReceipt, "wireBytes">>;
  /** The segment did not arrive whole; its space is given up. */
  abort(): Promise<void>;
}
