/**
 * Ingest whose sinks are what the slot says: a memory replica's, or one that
 * only hashes, counts, waits and fails as the test asked.
 */
import { setTimeout as delay } from "node:timers/promises";
import { threadId } from "node:worker_threads";
import { memorySegmentSinks } from "#lib/model/memory-segment-sink.js";
import { TidemarkError } from "#lib/model/errors.js";
import { identifyClient } from "#lib/security/peer-identity.js";
import { newSegmentDigest } from "#lib/tracking/segment-digest.js";
import { runIngest } from "#lib/transport/ingest.js";

/** The oracle's decoder is TypeScript, whose loader worker threads do not inherit. */
async function loadMemorySinks() {
  const { register } = await import("tsx/esm/api");
  register();
  const { decodeSegment } = await import("../contracts/segment-bytes.ts");
  return memorySegmentSinks(decodeSegment);
}

let memorySinks;

async function openSink(slot) {
  if (slot.place.hashing === true) return hashingSink(slot.place);
  memorySinks ??= loadMemorySinks();
  return (await memorySinks)(slot);
}

/** `counters` as BigInt64: [bytes written, sinks aborted, gate open, mask of threads]. */
function hashingSink(place) {
  const counters = new BigInt64Array(place.counters);
  const digest = newSegmentDigest(place.digest ?? "sha256");
  let totalBytes = 0;
  return {
    async write(bytes) {
      if (totalBytes >= place.dieAtBytes) {
        queueMicrotask(() => {
          throw new Error("a planted defect");
        });
        await new Promise(() => undefined);
      }
      while (Atomics.load(counters, 2) === 0n) await delay(5);
      Atomics.or(counters, 3, 1n << BigInt(threadId % 60));
      digest.update(bytes);
      totalBytes += bytes.length;
      Atomics.add(counters, 0, BigInt(bytes.length));
      if (totalBytes > place.failAtBytes) {
        throw new TidemarkError("NO_SPACE", "Cannot write: because the disk is full.");
      }
    },
    async finish() {
      const sha256 = place.lie === true ? "00".repeat(32) : digest.finish();
      return { segmentIndex: place.segmentIndex, sha256, dataBytes: totalBytes, zeroBytes: 0 };
    },
    async abort() {
      Atomics.add(counters, 1, 1n);
    },
  };
}

runIngest({ openSink, identifyPeer: identifyClient });
