import { type Agent, request as httpsRequest } from "node:https";
import type { SegmentReceipt } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { FIRST_SEGMENT_DIGEST, type NewSegmentDigest } from "../model/segment-digest.js";
import { identityEncoder, type SegmentEncoder } from "./content-coding.js";
import { HttpExchange, StaleConnection } from "./http-exchange.js";
import { MAX_ANSWER_JSON_BYTES } from "./limits.js";
import { networkError } from "./network-error.js";
import { parseAnswer } from "./parse-peer.js";
import { CONTENT_BYTES_HEADER, DIGEST_HEADER, SHA256_TRAILER } from "./peer-routes.js";
import { segmentReceipt } from "./peer-schemas.js";
import type { OpenSegmentRecords, SegmentJob } from "./segment-job.js";
import type { SentSegment } from "./segment-sender.js";
import { Stopwatch } from "./stopwatch.js";
import type { ZstdEncoder } from "./zstd-encoder.js";

const PURPOSE = "send a segment";

/** What a lane keeps for its segments, one after the other. */
export interface UploadTools {
  readonly openRecords: OpenSegmentRecords;
  readonly newDigest: NewSegmentDigest;
  readonly encoder: ZstdEncoder;
  readonly agent: Agent;
}

interface Stopwatches {
  readonly compress: Stopwatch;
  readonly line: Stopwatch;
}

/** Reads, hashes, compresses and sends one segment; at most a few pieces of it are in memory. */
export async function uploadSegment(
  job: SegmentJob,
  tools: UploadTools,
  signal: AbortSignal,
): Promise<SentSegment> {
  try {
    return await attemptUpload(job, tools, signal, "first");
  } catch (thrown) {
    if (!(thrown instanceof StaleConnection)) throw thrown;
    return attemptUpload(job, tools, signal, "last");
  }
}

async function attemptUpload(
  job: SegmentJob,
  tools: UploadTools,
  signal: AbortSignal,
  attempt: "first" | "last",
): Promise<SentSegment> {
  const watches = { compress: new Stopwatch(), line: new Stopwatch() };
  await using exchange = beginUpload(job, tools.agent, signal);
  const sha256 = await sendRecords(job, tools, exchange, watches, signal);
  const answering = watches.line.timeAsync(() => exchange.json(MAX_ANSWER_JSON_BYTES));
  const answer = await answering.catch((thrown: unknown) => {
    if (attempt === "first" && exchange.wasStale(thrown)) throw new StaleConnection();
    throw networkError(thrown, PURPOSE, job.origin);
  });
  const receipt = parseAnswer(segmentReceipt, answer, PURPOSE);
  requireSame(receipt, job, sha256);
  const { compress, line } = watches;
  return { receipt, compressMs: compress.elapsedMs, lineMs: line.elapsedMs };
}

function beginUpload(job: SegmentJob, agent: Agent, signal: AbortSignal): HttpExchange {
  const request = httpsRequest(new URL(job.path, job.origin), {
    method: "PUT",
    agent,
    headers: {
      "content-type": "application/octet-stream",
      "content-encoding": job.compressionLevel === 0 ? "identity" : "zstd",
      [CONTENT_BYTES_HEADER]: String(job.plan.contentBytes),
      trailer: SHA256_TRAILER,
      ...(job.digest === FIRST_SEGMENT_DIGEST ? {} : { [DIGEST_HEADER]: job.digest }),
    },
  });
  // The replica reserves the segment's place while the first piece is being read.
  request.flushHeaders();
  return new HttpExchange(request, job.idleTimeoutMs, signal);
}

/** Answers the digest of the record bytes; undefined when the answer came before their end. */
async function sendRecords(
  job: SegmentJob,
  { openRecords, newDigest, encoder: zstd }: UploadTools,
  exchange: HttpExchange,
  watches: Stopwatches,
  signal: AbortSignal,
): Promise<string | undefined> {
  const digest = newDigest(job.digest);
  const middle = crashInTheMiddle(job.plan.contentBytes);
  const encoder = startEncoder(zstd, job.compressionLevel);
  const send = (pieces: Iterable<Buffer>) => sendPieces(pieces, encoder, exchange, watches);
  for await (const piece of openRecords(job.plan, job.deltaId, signal)) {
    digest.update(piece);
    await send(encoder.push(piece));
    if (!exchange.wantsBody) return undefined;
    middle(piece.length);
  }
  middle(Number.POSITIVE_INFINITY);
  await send(encoder.end());
  if (!exchange.wantsBody) return undefined;
  const sha256 = digest.finish();
  exchange.request.addTrailers({ [SHA256_TRAILER]: sha256 });
  exchange.request.end();
  return sha256;
}

/** 0: as it is. */
function startEncoder(zstd: ZstdEncoder, level: number): SegmentEncoder {
  if (level === 0) return identityEncoder;
  zstd.start(level);
  return zstd;
}

/** Each piece is made when the one before it is on its way. */
async function sendPieces(
  pieces: Iterable<Buffer>,
  encoder: SegmentEncoder,
  exchange: HttpExchange,
  { compress, line }: Stopwatches,
): Promise<void> {
  const iterator = pieces[Symbol.iterator]();
  for (;;) {
    const next = compress.time(() => iterator.next());
    if (next.done === true) return;
    const piece = next.value;
    await line.timeAsync(() => exchange.send(piece, () => encoder.release(piece)));
  }
}

/** The failpoint "put": once a segment, at half of it, and before its end in any case. */
function crashInTheMiddle(contentBytes: number): (pieceBytes: number) => void {
  let leftBytes = contentBytes / 2;
  let passed = false;
  return (pieceBytes) => {
    leftBytes -= pieceBytes;
    if (passed || leftBytes > 0) return;
    passed = true;
    failpoint("put");
  };
}

function requireSame(receipt: SegmentReceipt, job: SegmentJob, sha256: string | undefined): void {
  if (receipt.segmentIndex === job.plan.segmentIndex && receipt.sha256 === sha256) return;
  throw new TidemarkError(
    "CORRUPT",
    `Cannot ${PURPOSE}: because the replica acknowledged other bytes than were sent.`,
    { hint: "Report this; the segment is sent again.", retryable: true },
  );
}
