import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { SegmentReceipt, SegmentSink } from "../model/delta.js";
import type { SegmentReceiver } from "../model/segment-receiver.js";
import { ingestSegment } from "./segment-ingest.js";
import type { ZstdDecoder } from "./zstd-decoder.js";

/** Of no VM: a probe is a segment in everything but in being kept. */
const NOBODY = "00000000-0000-0000-0000-000000000000";
const PARAMETERS = { vmId: NOBODY, deltaId: NOBODY, attempt: "1", segmentIndex: "0" };

const NO_RECEIVER: SegmentReceiver = {
  reserveSegment: async () => ({ slotId: NOBODY, place: {} }),
  completeSegment: async () => undefined,
  abortSegment: async () => undefined,
};

/** Receives, decompresses and hashes what a peer sends to measure the way. */
export function ingestProbe(
  message: IncomingMessage,
  decoder: ZstdDecoder,
  idleTimeoutMs: number,
): Promise<SegmentReceipt> {
  return ingestSegment(message, PARAMETERS, {
    receiver: NO_RECEIVER,
    openSink: async () => countingSink(),
    decoder,
    idleTimeoutMs,
  });
}

function countingSink(): SegmentSink {
  const hash = createHash("sha256");
  let dataBytes = 0;
  return {
    write: (bytes) => {
      hash.update(bytes);
      dataBytes += bytes.length;
      return undefined;
    },
    finish: async () => ({
      segmentIndex: 0,
      sha256: hash.digest("hex"),
      dataBytes,
      zeroBytes: 0,
    }),
    abort: async () => undefined,
  };
}
