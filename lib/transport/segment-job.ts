import type { SegmentPlan } from "../model/delta.js";
import type { TlsMaterial } from "../model/peer.js";
import type { SegmentDigestKind } from "../model/segment-digest.js";

/** What a lane is handed: one segment and where it goes. Structured-cloneable. */
export interface SegmentJob {
  readonly deltaId: string;
  readonly plan: SegmentPlan;
  /** "https://host:port". */
  readonly origin: string;
  readonly path: string;
  readonly tls: TlsMaterial;
  /** "http://host:port"; null: none. */
  readonly proxyUrl: string | null;
  /** 0: not compressed. */
  readonly compressionLevel: number;
  readonly digest: SegmentDigestKind;
  readonly idleTimeoutMs: number;
}

/** A segment that is sent to measure the way, and that the replica does not keep. */
export interface ProbeJob extends SegmentJob {
  readonly pieces: readonly Uint8Array[];
}

/** The record bytes of a segment (docs/formats/delta-stream.md), read in the lane's own thread. */
export type OpenSegmentRecords = (
  plan: SegmentPlan,
  deltaId: string,
  signal: AbortSignal,
) => AsyncIterable<Uint8Array>;
