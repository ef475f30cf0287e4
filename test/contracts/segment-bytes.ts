/**
 * An encoder and a strict decoder of delta segments, written from
 * docs/formats/delta-stream.md alone: the oracle for the library's own, with
 * which it shares no code.
 */
import { createHash, randomUUID } from "node:crypto";
import type { SegmentPlan, SegmentSource } from "#lib/model/delta.js";
import { TidemarkError } from "#lib/model/errors.js";
import type { DecodedExtent, DecodedSegment } from "#lib/model/memory-segment-sink.js";

export interface PlainRecord {
  readonly offset: number;
  readonly length: number;
  /** null: the range reads as zeroes. */
  readonly data: Uint8Array | null;
}

export interface PlainSegment {
  readonly deltaId: string;
  readonly diskIndex: number;
  readonly segmentIndex: number;
  readonly granularity: number;
  readonly records: readonly PlainRecord[];
}

const MAX_DATA_BYTES = 1024 * 1024;
const CRC_OF_BYTE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

/** CRC-32C, one byte after the other. */
export function plainCrc32c(...parts: readonly Uint8Array[]): number {
  let crc = 0xffffffff;
  for (const part of parts) {
    for (const byte of part) crc = (crc >>> 8) ^ (CRC_OF_BYTE[(crc ^ byte) & 0xff] ?? 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

export function encodeSegment(segment: PlainSegment): Buffer {
  const header = Buffer.alloc(40);
  header.write("TMS1", 0, "latin1");
  header.writeUInt16LE(1, 4);
  header.writeUInt16LE(segment.diskIndex, 6);
  header.writeUInt32LE(segment.segmentIndex, 8);
  header.writeUInt32LE(segment.granularity, 12);
  header.write(segment.deltaId.replaceAll("-", ""), 16, "hex");
  header.writeUInt32LE(plainCrc32c(header.subarray(0, 32)), 32);
  const parts: Uint8Array[] = [header];
  let total = 0;
  for (const { offset, length, data } of segment.records) {
    parts.push(encodeRecord(data === null ? 2 : 1, offset, length, data ?? Buffer.alloc(0)));
    total += length;
  }
  parts.push(encodeRecord(3, segment.records.length, total, Buffer.alloc(0)));
  return Buffer.concat(parts);
}

function encodeRecord(type: number, offset: number, length: number, content: Uint8Array): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt8(type, 0);
  header.writeBigUInt64LE(BigInt(offset), 8);
  header.writeBigUInt64LE(BigInt(length), 16);
  const crc = plainCrc32c(content, header.subarray(0, 4), header.subarray(8, 24));
  header.writeUInt32LE(crc, 4);
  return Buffer.concat([header, content]);
}

export function decodeSegment(bytes: Uint8Array): DecodedSegment {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = take(view, 0, 40);
  require(header.toString("latin1", 0, 4) === "TMS1", "magic");
  if (header.readUInt16LE(4) !== 1) throw new TidemarkError("VERSION_UNKNOWN", "another version");
  require(header.readUInt32LE(32) === plainCrc32c(header.subarray(0, 32)), "header CRC");
  const granularity = header.readUInt32LE(12);
  const hex = header.toString("hex", 16, 32);
  const deltaId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  const extents: DecodedExtent[] = [];
  let position = 40;
  for (;;) {
    const record = take(view, position, 24);
    const type = record.readUInt8(0);
    require(type >= 1 && type <= 3, "record type");
    const offset = Number(record.readBigUInt64LE(8));
    const length = Number(record.readBigUInt64LE(16));
    require(type !== 1 || length <= MAX_DATA_BYTES, "record length");
    const content = type === 1 ? take(view, position + 24, length) : Buffer.alloc(0);
    const crc = plainCrc32c(content, record.subarray(0, 4), record.subarray(8, 24));
    require(record.readUInt32LE(4) === crc, "record CRC");
    position += 24 + content.length;
    if (type === 3) {
      const total = extents.reduce((sum, extent) => sum + extent.lengthBytes, 0);
      require(offset === extents.length && length === total, "END");
      require(position === view.length, "bytes after END");
      break;
    }
    const previous = extents.at(-1);
    const end = previous === undefined ? 0 : previous.offsetBytes + previous.lengthBytes;
    require(length > 0 && offset >= end && offset % granularity === 0, "record order");
    const copy = type === 1 ? Uint8Array.from(content) : null;
    extents.push({ offsetBytes: offset, lengthBytes: length, content: copy });
  }
  const segmentIndex = header.readUInt32LE(8);
  return { deltaId, diskIndex: header.readUInt16LE(6), segmentIndex, extents };
}

function take(view: Buffer, offset: number, length: number): Buffer {
  if (offset + length > view.length) throw new TidemarkError("TRUNCATED", "ends before its end");
  return view.subarray(offset, offset + length);
}

function require(holds: boolean, what: string): void {
  if (!holds) throw new TidemarkError("CORRUPT", `a wrong ${what}`);
}

/** For MemoryVmTracker: DATA records, ZERO where all bytes are zero. */
export function encodeContents(
  deltaId: string,
  plan: SegmentPlan,
  contents: readonly Uint8Array[],
): Buffer {
  const records = contents.map((data, index) => ({
    offset: plan.extents[index * 2] ?? 0,
    length: data.length,
    data: data.every((byte) => byte === 0) ? null : data,
  }));
  const { diskIndex, segmentIndex, granularityBytes: granularity } = plan;
  return encodeSegment({ deltaId, diskIndex, segmentIndex, granularity, records });
}

/** The segment as the seam carries it; its bytes arrive in pieces. */
export function segmentSource(segment: PlainSegment, pieceBytes = 5000): SegmentSource {
  const bytes = encodeSegment(segment);
  const { deltaId, diskIndex, segmentIndex, granularity } = segment;
  return {
    deltaId,
    plan: {
      segmentIndex,
      diskIndex,
      extents: Float64Array.from(segment.records.flatMap((r) => [r.offset, r.length])),
      contentBytes: segment.records.reduce((sum, record) => sum + record.length, 0),
      granularityBytes: granularity,
      captureId: 0,
    },
    async *records() {
      for (let from = 0; from < bytes.length; from += pieceBytes) {
        yield bytes.subarray(from, from + pieceBytes);
      }
    },
  };
}

export function segmentSha256(segment: PlainSegment): string {
  return createHash("sha256").update(encodeSegment(segment)).digest("hex");
}

/** The digest of a delta with these segments. */
export function deltaDigest(segments: readonly PlainSegment[]): string {
  const ordered = [...segments].sort((left, right) => left.segmentIndex - right.segmentIndex);
  const digests = ordered.map((segment) => Buffer.from(segmentSha256(segment), "hex"));
  return createHash("sha256").update(Buffer.concat(digests)).digest("hex");
}

export function newDeltaId(): string {
  return randomUUID();
}
