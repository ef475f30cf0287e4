import { TidemarkError } from "../model/errors.js";
import { binding } from "./binding.js";
import { uuidText } from "./delta-format.js";
import { PieceReader } from "./piece-reader.js";
import {
  MAX_RECORD_CONTENT_BYTES,
  RECORD_HEADER_BYTES,
  RecordType,
  readBytesField,
  SEGMENT_FORMAT_VERSION,
  SEGMENT_HEADER_BYTES,
  SEGMENT_MAGIC,
} from "./segment-format.js";

export interface SegmentHeader {
  readonly deltaId: string;
  readonly diskIndex: number;
  readonly segmentIndex: number;
  readonly granularityBytes: number;
}

export type SegmentRecord =
  /** `data` is valid until the next record is asked for. */
  | { readonly type: "data"; readonly offsetBytes: number; readonly data: Uint8Array }
  | { readonly type: "zero"; readonly offsetBytes: number; readonly lengthBytes: number };

export interface SegmentDecoderOptions {
  /** Ranges that reach beyond it are refused. Default: none are. */
  readonly diskSizeBytes?: number;
  /** Bytes after END are kept for `takeLeftover` instead of refused. Default false. */
  readonly keepsLeftover?: boolean;
}

interface RecordHeader {
  readonly type: number;
  readonly crc: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * Takes a segment's bytes in pieces of any size and gives its records. Treats
 * all input as hostile: holds at most one record (1 MiB) and its header.
 */
export class SegmentDecoder {
  readonly #reader = new PieceReader();
  #header: SegmentHeader | null = null;
  #recordCount = 0;
  #contentBytes = 0;
  #endOfLastBytes = 0;
  #hasPartialBlock = false;
  #ended = false;
  readonly #diskSizeBytes: number;
  readonly #keepsLeftover: boolean;

  constructor(options: SegmentDecoderOptions = {}) {
    this.#keepsLeftover = options.keepsLeftover ?? false;
    this.#diskSizeBytes = options.diskSizeBytes ?? Number.MAX_SAFE_INTEGER;
  }

  /** Null until its bytes have arrived. */
  get header(): SegmentHeader | null {
    return this.#header;
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  /** The records that became complete. CORRUPT and VERSION_UNKNOWN are final. */
  *push(chunk: Uint8Array): Generator<SegmentRecord, void, void> {
    this.#reader.push(chunk);
    if (this.#header === null) {
      const headerBytes = this.#reader.peek(SEGMENT_HEADER_BYTES);
      if (headerBytes === null) return;
      this.#header = decodeSegmentHeader(headerBytes);
      this.#reader.skip(SEGMENT_HEADER_BYTES);
    }
    for (let record = this.#next(); record !== null; record = this.#next()) yield record;
  }

  /** Call after the last byte: TRUNCATED unless END has been met. */
  finish(): void {
    if (this.#ended) return;
    throw new TidemarkError("TRUNCATED", "Cannot read the segment: it ends before its END record.");
  }

  /** What was pushed beyond END, in the memory that was pushed. */
  takeLeftover(): Buffer {
    return this.#reader.takeRest();
  }

  #next(): SegmentRecord | null {
    if (this.#reader.isEmpty) return null;
    if (this.#ended) return this.#afterEnd();
    const headerBytes = this.#reader.peek(RECORD_HEADER_BYTES);
    if (headerBytes === null) return null;
    const header = decodeRecordHeader(headerBytes);
    this.#check(header);
    const contentBytes = header.type === RecordType.DATA ? header.lengthBytes : 0;
    const record = this.#reader.peek(RECORD_HEADER_BYTES + contentBytes);
    if (record === null) return null;
    const content = record.subarray(RECORD_HEADER_BYTES);
    checkCrc(record.subarray(0, RECORD_HEADER_BYTES), content, header);
    this.#reader.skip(record.length);
    return this.#accept(header, content);
  }

  #afterEnd(): null {
    if (this.#keepsLeftover) return null;
    throw corrupt("bytes follow its END record");
  }

  #accept(header: RecordHeader, data: Buffer): SegmentRecord | null {
    const { type, offsetBytes, lengthBytes } = header;
    if (type === RecordType.END) {
      if (offsetBytes !== this.#recordCount || lengthBytes !== this.#contentBytes) {
        throw corrupt("its END record counts other records than those before it");
      }
      this.#ended = true;
      return this.#next();
    }
    this.#recordCount += 1;
    this.#contentBytes += lengthBytes;
    this.#endOfLastBytes = offsetBytes + lengthBytes;
    this.#hasPartialBlock = lengthBytes % (this.#header?.granularityBytes ?? 1) !== 0;
    return type === RecordType.DATA
      ? { type: "data", offsetBytes, data }
      : { type: "zero", offsetBytes, lengthBytes };
  }

  #check(header: RecordHeader): void {
    const { type, offsetBytes, lengthBytes } = header;
    if (type === RecordType.END) return;
    if (type !== RecordType.DATA && type !== RecordType.ZERO) {
      throw corrupt(`it has a record of unknown type ${type}`);
    }
    const granularityBytes = this.#header?.granularityBytes ?? 1;
    if (lengthBytes === 0 || offsetBytes % granularityBytes !== 0) {
      throw corrupt(`a record at offset ${offsetBytes} is not aligned`);
    }
    if (type === RecordType.DATA && lengthBytes > MAX_RECORD_CONTENT_BYTES) {
      throw corrupt(`a record at offset ${offsetBytes} is longer than 1 MiB`);
    }
    if (offsetBytes < this.#endOfLastBytes || this.#hasPartialBlock) {
      throw corrupt(`the record at offset ${offsetBytes} does not follow the one before it`);
    }
    if (offsetBytes + lengthBytes > this.#diskSizeBytes) {
      throw corrupt(`a record at offset ${offsetBytes} reaches beyond the disk's end`);
    }
  }
}

function decodeSegmentHeader(bytes: Buffer): SegmentHeader {
  if (bytes.readUInt32LE(0) !== SEGMENT_MAGIC) throw corrupt("it does not begin with TMS1");
  const version = bytes.readUInt16LE(4);
  if (version !== SEGMENT_FORMAT_VERSION) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot read the segment: its format version is ${version}, this build knows ${SEGMENT_FORMAT_VERSION}.`,
      { hint: "Upgrade the older of the two hosts." },
    );
  }
  if (bytes.readUInt32LE(32) !== binding.crc32c(bytes.subarray(0, 32), 0)) {
    throw corrupt("its header's checksum does not hold");
  }
  const granularityBytes = bytes.readUInt32LE(12);
  if (granularityBytes < 512 || !Number.isInteger(Math.log2(granularityBytes))) {
    throw corrupt(`its granularity ${granularityBytes} is not a power of two`);
  }
  return {
    diskIndex: bytes.readUInt16LE(6),
    segmentIndex: bytes.readUInt32LE(8),
    granularityBytes,
    deltaId: uuidText(bytes.subarray(16, 32)),
  };
}

function decodeRecordHeader(bytes: Buffer): RecordHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsetBytes = readBytesField(view, 8);
  const lengthBytes = readBytesField(view, 16);
  if (offsetBytes === null || lengthBytes === null)
    throw corrupt("a record's range is beyond 2^53");
  return { type: view.getUint32(0, true), crc: view.getUint32(4, true), offsetBytes, lengthBytes };
}

function checkCrc(headerBytes: Buffer, content: Buffer, header: RecordHeader): void {
  const ofContent = content.length === 0 ? 0 : binding.crc32c(content, 0);
  const afterType = binding.crc32c(headerBytes.subarray(0, 4), ofContent);
  if (binding.crc32c(headerBytes.subarray(8), afterType) === header.crc) return;
  throw corrupt(`the checksum of the record at offset ${header.offsetBytes} does not hold`);
}

function corrupt(why: string): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot read the segment: ${why}.`);
}
