import type { SegmentReceipt } from "../model/delta.js";
import type { ProbeJob, SegmentJob } from "./segment-job.js";

/** A segment that is durable at the replica, and what it waited for on its way. */
export interface SentSegment {
  readonly receipt: SegmentReceipt;
  /** The processor's share. */
  readonly compressMs: number;
  /** For the line and the replica. */
  readonly lineMs: number;
}

/** What takes segments to replicas: LanePool, or something around it. */
export interface SegmentSender {
  /** Resolves when the segment is durable at the replica. */
  send(job: SegmentJob, signal?: AbortSignal): Promise<SentSegment>;
  /** As send(), but nothing is kept of it. */
  probe(job: ProbeJob, signal?: AbortSignal): Promise<SentSegment>;
  /** Absent, or infinite: any that the protocol allows. */
  largestSegmentBytes?(): number;
}
