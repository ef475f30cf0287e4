import { binding } from "./binding.js";
import { uuidBytes } from "./delta-format.js";
import {
  RECORD_HEADER_BYTES,
  RecordType,
  SEGMENT_FORMAT_VERSION,
  SEGMENT_HEADER_BYTES,
  SEGMENT_MAGIC,
  writeBytesField,
} from "./segment-format.js";

export interface SegmentIdentity {
  readonly deltaId: string;
  readonly diskIndex: number;
  readonly segmentIndex: number;
  readonly granularityBytes: number;
}

export function encodeSegmentHeader(identity: SegmentIdentity): Buffer {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  header.writeUInt32LE(SEGMENT_MAGIC, 0);
  header.writeUInt16LE(SEGMENT_FORMAT_VERSION, 4);
  header.writeUInt16LE(identity.diskIndex, 6);
  header.writeUInt32LE(identity.segmentIndex, 8);
  header.writeUInt32LE(identity.granularityBytes, 12);
  uuidBytes(identity.deltaId).copy(header, 16);
  header.writeUInt32LE(binding.crc32c(header.subarray(0, 32), 0), 32);
  return header;
}

/** Writes a record header into `at`; `contentCrc` is 0 for records without content. */
export function encodeRecordHeader(
  at: Buffer,
  type: number,
  offsetBytes: number,
  lengthBytes: number,
  contentCrc: number,
): void {
  const view = new DataView(at.buffer, at.byteOffset, RECORD_HEADER_BYTES);
  view.setUint32(0, type, true);
  writeBytesField(view, 8, offsetBytes);
  writeBytesField(view, 16, lengthBytes);
  const afterType = binding.crc32c(at.subarray(0, 4), contentCrc);
  view.setUint32(4, binding.crc32c(at.subarray(8, RECORD_HEADER_BYTES), afterType), true);
}

/** Counts what END says. */
export class SegmentTotals {
  recordCount = 0;
  contentBytes = 0;

  add(lengthBytes: number): void {
    this.recordCount += 1;
    this.contentBytes += lengthBytes;
  }

  encodeEnd(): Buffer {
    const end = Buffer.alloc(RECORD_HEADER_BYTES);
    encodeRecordHeader(end, RecordType.END, this.recordCount, this.contentBytes, 0);
    return end;
  }
}
