import type { IncomingMessage } from "node:http";
import type { SegmentReceipt, SegmentSink } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import type {
  OpenSegmentSink,
  SegmentReceiver,
  SegmentRequest,
  SegmentSlot,
} from "../model/segment-receiver.js";
import { type ContentCoding, IdentityDecoder, parseContentCoding } from "./content-coding.js";
import { maxRecordBytes, maxWireBytes } from "./limits.js";
import { takePieces } from "./message-body.js";
import { parseRequest } from "./parse-peer.js";
import { CONTENT_BYTES_HEADER, DIGEST_HEADER, SHA256_TRAILER } from "./peer-routes.js";
import { segmentRequest } from "./peer-schemas.js";
import type { ZstdDecoder } from "./zstd-decoder.js";

export interface SegmentIngestTools {
  /** The store's main-thread end, called across the message port. */
  readonly receiver: SegmentReceiver;
  readonly openSink: OpenSegmentSink;
  readonly decoder: ZstdDecoder;
  readonly freeMemory?: ((bytes: Uint8Array) => void) | undefined;
  readonly idleTimeoutMs: number;
}

/**
 * Takes one segment in. Whatever goes wrong, the sink and its slot are given
 * up, and the error is the sender's answer.
 */
export async function ingestSegment(
  message: IncomingMessage,
  parameters: Record<string, string>,
  tools: SegmentIngestTools,
): Promise<SegmentReceipt> {
  const coding = codingOf(message);
  const request = requestOf(message, parameters);
  const slot = await tools.receiver.reserveSegment(request);
  try {
    const receipt = await fillSlot(message, request, slot, coding, tools);
    await tools.receiver.completeSegment(slot, receipt);
    return receipt;
  } catch (thrown) {
    await tools.receiver.abortSegment(slot).catch(() => undefined);
    throw thrown;
  }
}

function codingOf(message: IncomingMessage): ContentCoding {
  return parseContentCoding(message.headers["content-encoding"] ?? "identity");
}

function requestOf(message: IncomingMessage, parameters: Record<string, string>): SegmentRequest {
  const contentBytes = message.headers[CONTENT_BYTES_HEADER];
  const digest = message.headers[DIGEST_HEADER];
  return parseRequest(segmentRequest, { ...parameters, contentBytes, digest }, "receive a segment");
}

async function fillSlot(
  message: IncomingMessage,
  request: SegmentRequest,
  slot: SegmentSlot,
  coding: ContentCoding,
  tools: SegmentIngestTools,
): Promise<SegmentReceipt> {
  const sink = await tools.openSink(slot);
  try {
    const wireBytes = await fillSink(message, request, sink, coding, tools);
    const receipt = { ...(await sink.finish()), wireBytes };
    requireSent(message, request, receipt);
    return receipt;
  } catch (thrown) {
    await sink.abort().catch(() => undefined);
    throw thrown;
  }
}

/** Answers how many bytes came over the wire. */
async function fillSink(
  message: IncomingMessage,
  request: SegmentRequest,
  sink: SegmentSink,
  coding: ContentCoding,
  { decoder: zstd, freeMemory, idleTimeoutMs }: SegmentIngestTools,
): Promise<number> {
  const recordLimitBytes = maxRecordBytes(request.contentBytes);
  const wireLimitBytes = maxWireBytes(recordLimitBytes);
  const decoder = coding === "zstd" ? zstd : new IdentityDecoder();
  let wireBytes = 0;
  decoder.start(recordLimitBytes);
  await takePieces(message, idleTimeoutMs, (piece) => {
    wireBytes += piece.length;
    if (wireBytes > wireLimitBytes) throw tooLong(wireLimitBytes);
    const written = writeAll(decoder.push(piece)[Symbol.iterator](), sink);
    if (written === undefined) freeMemory?.(piece);
    return written;
  });
  await writeAll(decoder.end()[Symbol.iterator](), sink);
  return wireBytes;
}

/** At once, as far as the sink does not ask to be waited for. */
function writeAll(records: Iterator<Uint8Array>, sink: SegmentSink): Promise<void> | undefined {
  for (;;) {
    const next = records.next();
    if (next.done === true) return undefined;
    const written = sink.write(next.value);
    if (written !== undefined) return written.then(() => writeAll(records, sink));
  }
}

/** The sink's digest is that of the bytes it wrote; the trailer's that of the bytes that were read. */
function requireSent(
  message: IncomingMessage,
  request: SegmentRequest,
  receipt: SegmentReceipt,
): void {
  const sha256 = message.trailers[SHA256_TRAILER];
  if (sha256 === undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot receive a segment: because its trailer ${SHA256_TRAILER} is missing.`,
    );
  }
  if (sha256 === receipt.sha256 && receipt.segmentIndex === request.segmentIndex) return;
  throw new TidemarkError(
    "CORRUPT",
    "Cannot receive a segment: because what arrived is not what its sender read (digest or index differ).",
    { hint: "It is sent again; report this if it comes back.", retryable: true },
  );
}

function tooLong(limitBytes: number): TidemarkError {
  return new TidemarkError(
    "LIMIT_REACHED",
    `Cannot receive a segment: because it is longer than the ${limitBytes} bytes that its stated content can take.`,
    { hint: "Report this: the sender states one size and sends another." },
  );
}
