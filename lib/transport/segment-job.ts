import type { SegmentPlan } from "../model/delta.js";
import type { TlsMaterial } from "../model/peer.js";

/** What a lane is handed: one segment and where it goes. Structured-cloneable. */
export interface SegmentJob {
  readonly deltaId: string;
  readonly plan: SegmentPlan;
  /** "https://host:port". */
  readonly origin: string;
  readonly path: string;
  readonly tls: TlsMaterial;
  readonly compressionLevel: number;
  readonly idleTimeoutMs: number;
}

/** The record bytes of a segment (docs/formats/delta-stream.md), read in the lane's own thread. */
export type OpenSegmentRecords = (
  plan: SegmentPlan,
  deltaId: string,
  signal: AbortSignal,
) => AsyncIterable<Uint8Array>;
