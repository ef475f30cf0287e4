/** One segment of a delta as a file: compressed, then encrypted. For worker threads. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { SegmentPlan, SegmentReceipt } from "../model/delta.js";
import { failpoint } from "../model/failpoint.js";
import type { OpenSegmentSink, SegmentSlot } from "../model/segment-receiver.js";
import { maxRecordBytes } from "../transport/limits.js";
import { ZstdDecoder } from "../transport/zstd-decoder.js";
import { ZstdEncoder } from "../transport/zstd-encoder.js";
import { diskError, type FileSum, writeWhole } from "./medium-files.js";
import { ChunkSealer, readSealedFile, type SealedPlace } from "./sealed-file.js";

export interface SegmentTarget {
  readonly path: string;
  readonly place: SealedPlace;
  readonly compressionLevel: number;
}

export interface SegmentToRead {
  readonly path: string;
  readonly place: SealedPlace;
  /** Bounds what may come out of it. */
  readonly contentBytes: number;
}

export interface WrittenSegment extends FileSum {
  readonly contentBytes: number;
  readonly receipt: SegmentReceipt;
}

/** The part of tracking's SegmentDecoder that is needed to count what goes in. */
export interface RecordReader {
  push(
    chunk: Uint8Array,
  ): Iterable<
    | { readonly type: "data"; readonly data: Uint8Array }
    | { readonly type: "zero"; readonly lengthBytes: number }
  >;
  finish(): void;
}

const CHECKED_AT_ONCE_BYTES = 1 << 20;

export async function writeSegmentFile(
  { segmentIndex, contentBytes }: SegmentPlan,
  records: AsyncIterable<Uint8Array>,
  target: SegmentTarget,
  reader: RecordReader,
): Promise<WrittenSegment> {
  const counted = new CountedRecords(records, reader);
  const sum = await writeWhole(target.path, compressAndSeal(counted, target));
  const receipt = { segmentIndex, ...counted.totals(), wireBytes: sum.fileBytes };
  return { ...sum, contentBytes, receipt };
}

/** Into a slot of the store; its content counts when the store has taken the receipt. */
export async function readSegmentFile(
  { path, place, contentBytes }: SegmentToRead,
  slot: SegmentSlot,
  openSink: OpenSegmentSink,
  signal?: AbortSignal,
): Promise<SegmentReceipt> {
  const sink = await openSink(slot);
  try {
    const decoder = new ZstdDecoder();
    decoder.start(maxRecordBytes(contentBytes));
    let wireBytes = 0;
    for await (const piece of readSealedFile(path, place, signal)) {
      wireBytes += piece.length;
      for (const recordBytes of decoder.push(piece)) await sink.write(recordBytes);
    }
    for (const recordBytes of decoder.end()) await sink.write(recordBytes);
    return { ...(await sink.finish()), wireBytes };
  } catch (thrown) {
    await sink.abort().catch(() => undefined);
    throw thrown;
  }
}

/** Of a file as it is, without opening it. */
export async function sumOfFile(path: string, signal?: AbortSignal): Promise<FileSum> {
  const hash = createHash("sha256");
  const into = Buffer.allocUnsafe(CHECKED_AT_ONCE_BYTES);
  try {
    await using handle = await open(path, "r");
    let fileBytes = 0;
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await handle.read(into, 0, into.length, fileBytes);
      if (bytesRead === 0) return { fileBytes, sha256: hash.digest("hex") };
      hash.update(into.subarray(0, bytesRead));
      fileBytes += bytesRead;
    }
  } catch (thrown) {
    throw diskError(thrown, path);
  }
}

async function* compressAndSeal(
  records: AsyncIterable<Uint8Array>,
  { place, compressionLevel }: SegmentTarget,
): AsyncGenerator<Uint8Array> {
  const sealer = new ChunkSealer(place);
  const encoder = new ZstdEncoder();
  encoder.start(compressionLevel);
  yield sealer.header;
  for await (const piece of records) {
    for (const compressed of encoder.push(piece)) yield* sealer.push(compressed);
  }
  failpoint("media.put");
  for (const compressed of encoder.end()) yield* sealer.push(compressed);
  yield sealer.end();
}

/** The record bytes on their way: hashed, and held to what a reader of them will demand. */
class CountedRecords implements AsyncIterable<Uint8Array> {
  readonly #records: AsyncIterable<Uint8Array>;
  readonly #reader: RecordReader;
  readonly #hash = createHash("sha256");
  #dataBytes = 0;
  #zeroBytes = 0;

  constructor(records: AsyncIterable<Uint8Array>, reader: RecordReader) {
    this.#records = records;
    this.#reader = reader;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for await (const piece of this.#records) {
      this.#hash.update(piece);
      for (const record of this.#reader.push(piece)) {
        if (record.type === "data") this.#dataBytes += record.data.length;
        else this.#zeroBytes += record.lengthBytes;
      }
      yield piece;
    }
    this.#reader.finish();
  }

  totals() {
    return {
      sha256: this.#hash.digest("hex"),
      dataBytes: this.#dataBytes,
      zeroBytes: this.#zeroBytes,
    };
  }
}
