import type { SegmentReceipt, SegmentSink } from "./delta.js";
import type { SegmentDigestKind } from "./segment-digest.js";

export interface SegmentRequest {
  readonly vmId: string;
  readonly deltaId: string;
  readonly attempt: number;
  readonly segmentIndex: number;
  readonly contentBytes: number;
  /** Of the receipt. Absent: SHA-256. */
  readonly digest?: SegmentDigestKind | undefined;
}

/** Where a segment goes; structured-cloneable, its content private to the store that made it. */
export interface SegmentSlot {
  readonly slotId: string;
  readonly place: unknown;
}

/**
 * The receiving end of segments, split over threads: the store (main thread)
 * reserves and records, a worker thread opens the sink of a slot and fills it.
 */
export interface SegmentReceiver {
  /** NOT_FOUND when the delta is not open in that attempt; NO_SPACE. */
  reserveSegment(request: SegmentRequest): Promise<SegmentSlot>;
  /** The sink has finished: the segment counts from now on. */
  completeSegment(slot: SegmentSlot, receipt: SegmentReceipt): Promise<void>;
  abortSegment(slot: SegmentSlot): Promise<void>;
}

/** Opens a slot's sink, in whichever thread. */
export type OpenSegmentSink = (slot: SegmentSlot) => Promise<SegmentSink>;
