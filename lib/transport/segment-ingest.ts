import type { IncomingMessage } from "node:http";
import type { SegmentReceipt, SegmentSink } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import type {
  OpenSegmentSink,
  SegmentReceiver,
  SegmentRequest,
  SegmentSlot,
} from "../model/segment-receiver.js";
import { maxRecordBytes, maxWireBytes } from "./limits.js";
import { readPieces } from "./message-body.js";
import { parseRequest } from "./parse-peer.js";
import { CONTENT_BYTES_HEADER, SHA256_TRAILER } from "./peer-routes.js";
import { segmentRequest } from "./peer-schemas.js";
import type { ZstdDecoder } from "./zstd-decoder.js";

export interface SegmentIngestTools {
  /** The store's main-thread end, called across the message port. */
  readonly receiver: SegmentReceiver;
  readonly openSink: OpenSegmentSink;
  readonly decoder: ZstdDecoder;
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
  const request = requestOf(message, parameters);
  const slot = await tools.receiver.reserveSegment(request);
  try {
    const receipt = await fillSlot(message, request, slot, tools);
    await tools.receiver.completeSegment(slot, receipt);
    return receipt;
  } catch (thrown) {
    await tools.receiver.abortSegment(slot).catch(() => undefined);
    throw thrown;
  }
}

function requestOf(message: IncomingMessage, parameters: Record<string, string>): SegmentRequest {
  const encoding = message.headers["content-encoding"] ?? "identity";
  if (encoding !== "zstd") {
    throw new TidemarkError(
      "UNSUPPORTED",
      `Cannot receive a segment: because its content encoding is ${JSON.stringify(encoding.slice(0, 20))}, not "zstd".`,
    );
  }
  const contentBytes = message.headers[CONTENT_BYTES_HEADER];
  return parseRequest(segmentRequest, { ...parameters, contentBytes }, "receive a segment");
}

async function fillSlot(
  message: IncomingMessage,
  request: SegmentRequest,
  slot: SegmentSlot,
  tools: SegmentIngestTools,
): Promise<SegmentReceipt> {
  const sink = await tools.openSink(slot);
  try {
    const wireBytes = await fillSink(message, request, sink, tools);
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
  { decoder, idleTimeoutMs }: SegmentIngestTools,
): Promise<number> {
  const recordLimitBytes = maxRecordBytes(request.contentBytes);
  const wireLimitBytes = maxWireBytes(recordLimitBytes);
  let wireBytes = 0;
  decoder.start(recordLimitBytes);
  for await (const piece of readPieces(message, idleTimeoutMs)) {
    wireBytes += piece.length;
    if (wireBytes > wireLimitBytes) throw tooLong(wireLimitBytes);
    for (const recordBytes of decoder.push(piece)) await sink.write(recordBytes);
  }
  decoder.end();
  return wireBytes;
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
    "Cannot receive a segment: because what arrived is not what its sender read (SHA-256 or index differ).",
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
