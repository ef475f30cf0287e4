import { TidemarkError } from "../model/errors.js";
import {
  DELTA_FIXED_HEADER_BYTES,
  type DeltaStreamHeader,
  decodeDeltaHeader,
  deltaHeaderBytes,
} from "./delta-format.js";
import { SegmentDecoder, type SegmentRecord } from "./segment-decoder.js";

/** A record with the disk it belongs to (an index into the header's disks). */
export type DeltaRecord = SegmentRecord & { readonly diskIndex: number };

/**
 * Reads a delta that was written as one stream. Iterate it: the records come in
 * the stream's order, and the iteration ends only when the delta was whole;
 * otherwise it throws TRUNCATED, CORRUPT or VERSION_UNKNOWN. What was iterated
 * before an error must not count as a restored state.
 */
export class DeltaDecoder implements AsyncIterable<DeltaRecord> {
  readonly #source: AsyncIterable<Uint8Array>;
  #header: DeltaStreamHeader | null = null;
  #pending: Buffer = Buffer.alloc(0);
  #segment: SegmentDecoder | null = null;
  #endedSegmentCount = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  /** Null until the first record has been iterated. */
  get header(): DeltaStreamHeader | null {
    return this.#header;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<DeltaRecord, void, void> {
    for await (const chunk of this.#source) yield* this.#push(chunk);
    const header = this.#header;
    if (header === null || this.#endedSegmentCount < header.segmentCount) {
      throw new TidemarkError(
        "TRUNCATED",
        "Cannot read the delta: it ends before its last segment.",
      );
    }
  }

  *#push(chunk: Uint8Array): Generator<DeltaRecord> {
    let bytes: Buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#header === null) {
      const rest = this.#takeHeader(bytes);
      if (rest === null) return;
      bytes = rest;
    }
    while (bytes.length > 0) {
      const segment = this.#openSegment();
      for (const record of segment.push(bytes)) {
        const diskIndex = this.#diskIndexOf(segment);
        this.#requireInside(record, diskIndex);
        yield { ...record, diskIndex };
      }
      if (!segment.isEnded) return;
      this.#endedSegmentCount += 1;
      this.#segment = null;
      bytes = segment.takeLeftover();
    }
  }

  #takeHeader(bytes: Buffer): Buffer | null {
    const pending = Buffer.concat([this.#pending, bytes]);
    this.#pending = pending;
    if (pending.length < DELTA_FIXED_HEADER_BYTES) return null;
    const headerBytes = deltaHeaderBytes(pending);
    if (pending.length < headerBytes) return null;
    this.#header = decodeDeltaHeader(pending.subarray(0, headerBytes));
    this.#pending = Buffer.alloc(0);
    return pending.subarray(headerBytes);
  }

  #openSegment(): SegmentDecoder {
    if (this.#endedSegmentCount === this.#header?.segmentCount) {
      throw new TidemarkError("CORRUPT", "Cannot read the delta: bytes follow its last segment.");
    }
    this.#segment ??= new SegmentDecoder({ keepsLeftover: true });
    return this.#segment;
  }

  /** A segment alone does not know where its disk ends. */
  #requireInside(record: SegmentRecord, diskIndex: number): void {
    const { sizeBytes = 0, granularityBytes = 1 } = this.#header?.disks[diskIndex] ?? {};
    const lengthBytes = record.type === "data" ? record.data.length : record.lengthBytes;
    const endBytes = record.offsetBytes + lengthBytes;
    if (endBytes === sizeBytes) return;
    if (endBytes < sizeBytes && lengthBytes % granularityBytes === 0) return;
    throw new TidemarkError(
      "CORRUPT",
      `Cannot read the delta: because a record at offset ${record.offsetBytes} does not fit its disk of ${sizeBytes} bytes.`,
    );
  }

  #diskIndexOf(segment: SegmentDecoder): number {
    const header = segment.header;
    const belongs =
      header !== null &&
      header.deltaId === this.#header?.deltaId &&
      header.segmentIndex === this.#endedSegmentCount &&
      header.granularityBytes === this.#header.disks[header.diskIndex]?.granularityBytes;
    if (belongs) return header.diskIndex;
    throw new TidemarkError(
      "CORRUPT",
      "Cannot read the delta: a segment of another delta is in it.",
    );
  }
}
