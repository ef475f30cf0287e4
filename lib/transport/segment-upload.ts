import { createHash } from "node:crypto";
import { type Agent, request as httpsRequest } from "node:https";
import type { SegmentReceipt } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { HttpExchange, StaleConnection } from "./http-exchange.js";
import { MAX_ANSWER_JSON_BYTES } from "./limits.js";
import { networkError } from "./network-error.js";
import { parseAnswer } from "./parse-peer.js";
import { CONTENT_BYTES_HEADER, SHA256_TRAILER } from "./peer-routes.js";
import { segmentReceipt } from "./peer-schemas.js";
import type { OpenSegmentRecords, SegmentJob } from "./segment-job.js";
import type { ZstdEncoder } from "./zstd-encoder.js";

const PURPOSE = "send a segment";

/** What a lane keeps for its segments, one after the other. */
export interface UploadTools {
  readonly openRecords: OpenSegmentRecords;
  readonly encoder: ZstdEncoder;
  readonly agent: Agent;
}

/** Reads, hashes, compresses and sends one segment; at most a few pieces of it are in memory. */
export async function uploadSegment(
  job: SegmentJob,
  tools: UploadTools,
  signal: AbortSignal,
): Promise<SegmentReceipt> {
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
): Promise<SegmentReceipt> {
  await using exchange = beginUpload(job, tools.agent, signal);
  const sha256 = await sendRecords(job, tools, exchange, signal);
  const answer = await exchange.json(MAX_ANSWER_JSON_BYTES).catch((thrown: unknown) => {
    if (attempt === "first" && exchange.wasStale(thrown)) throw new StaleConnection();
    throw networkError(thrown, PURPOSE, job.origin);
  });
  const receipt = parseAnswer(segmentReceipt, answer, PURPOSE);
  requireSame(receipt, job, sha256);
  return receipt;
}

function beginUpload(job: SegmentJob, agent: Agent, signal: AbortSignal): HttpExchange {
  const request = httpsRequest(new URL(job.path, job.origin), {
    method: "PUT",
    agent,
    headers: {
      "content-type": "application/octet-stream",
      "content-encoding": "zstd",
      [CONTENT_BYTES_HEADER]: String(job.plan.contentBytes),
      trailer: SHA256_TRAILER,
    },
  });
  // The replica reserves the segment's place while the first piece is being read.
  request.flushHeaders();
  return new HttpExchange(request, job.idleTimeoutMs, signal);
}

/** Answers the SHA-256 of the record bytes; undefined when the answer came before their end. */
async function sendRecords(
  job: SegmentJob,
  { openRecords, encoder }: UploadTools,
  exchange: HttpExchange,
  signal: AbortSignal,
): Promise<string | undefined> {
  const hash = createHash("sha256");
  const middle = crashInTheMiddle(job.plan.contentBytes);
  encoder.start(job.compressionLevel);
  for await (const piece of openRecords(job.plan, job.deltaId, signal)) {
    hash.update(piece);
    for (const compressed of encoder.push(piece)) await exchange.send(compressed);
    if (!exchange.wantsBody) return undefined;
    middle(piece.length);
  }
  middle(Number.POSITIVE_INFINITY);
  for (const compressed of encoder.end()) await exchange.send(compressed);
  if (!exchange.wantsBody) return undefined;
  const sha256 = hash.digest("hex");
  exchange.request.addTrailers({ [SHA256_TRAILER]: sha256 });
  exchange.request.end();
  return sha256;
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
