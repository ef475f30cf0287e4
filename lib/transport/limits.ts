/** What a request may cost, on either side. docs/replication-protocol.md states these. */

const MIB = 1024 * 1024;

/** Ascending. What a host of the version before knows is among them. */
export const PROTOCOL_VERSIONS: readonly number[] = [1];

/** Of one segment, uncompressed, zero blocks included. */
export const MAX_CONTENT_BYTES = 64 * MIB;

/** Of a control request's body. */
export const MAX_REQUEST_JSON_BYTES = MIB;

/** Of most answers; routes with long lists say more. */
export const MAX_ANSWER_JSON_BYTES = MIB;

/**
 * The window that a segment's zstd frame may ask the decoder to keep (2^23 is
 * 8 MiB); levels up to 19 stay within it.
 */
export const MAX_WINDOW_LOG = 23;

const SEGMENT_HEADER_BYTES = 40;
const RECORD_HEADER_BYTES = 24;
const SMALLEST_BLOCK_BYTES = 4096;

/**
 * The most record bytes that this much content can take: a record a block, the
 * shorter one at the disk's end, END, and the segment's header.
 */
export function maxRecordBytes(contentBytes: number): number {
  const records = Math.ceil(contentBytes / SMALLEST_BLOCK_BYTES) + 2;
  return SEGMENT_HEADER_BYTES + records * RECORD_HEADER_BYTES + contentBytes;
}

/** The most that those bytes can take compressed: zstd's bound, and room for block headers. */
export function maxWireBytes(recordBytes: number): number {
  return recordBytes + Math.ceil(recordBytes / 128) + 64 * 1024;
}

/** Times and counts of the receiving listener, each for one worker thread. */
export interface IngestLimits {
  readonly handshakeTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** For a whole request: a segment on a thin line takes minutes. */
  readonly requestTimeoutMs: number;
  /** While a request's body is waited for, between two pieces of it. */
  readonly idleTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly maxConnections: number;
}

export const DEFAULT_INGEST_LIMITS: IngestLimits = {
  handshakeTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 15 * 60_000,
  idleTimeoutMs: 30_000,
  keepAliveTimeoutMs: 60_000,
  maxConnections: 128,
};

/** How long a client waits while nothing moves on its connection. */
export const CLIENT_IDLE_TIMEOUT_MS = 60_000;
