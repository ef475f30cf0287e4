import { TidemarkError } from "../model/errors.js";
import type { DiskGeometry } from "../model/disk.js";
import { binding } from "./binding.js";
import { readBytesField, writeBytesField } from "./segment-format.js";

/** The header of a delta as one stream (docs/formats/delta-stream.md). */
export interface DeltaStreamHeader {
  readonly deltaId: string;
  readonly segmentCount: number;
  readonly disks: readonly Omit<DiskGeometry, "name">[];
}

const MAGIC = 0x31444d54;
const FORMAT_VERSION = 1;
export const DELTA_FIXED_HEADER_BYTES = 32;
const DISK_ENTRY_BYTES = 32;
const CRC_BYTES = 4;

export function encodeDeltaHeader(header: DeltaStreamHeader): Buffer {
  const entriesBytes = header.disks.length * DISK_ENTRY_BYTES;
  const bytes = Buffer.alloc(DELTA_FIXED_HEADER_BYTES + entriesBytes + CRC_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt16LE(FORMAT_VERSION, 4);
  bytes.writeUInt16LE(header.disks.length, 6);
  bytes.writeUInt32LE(header.segmentCount, 8);
  uuidBytes(header.deltaId).copy(bytes, 16);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [index, disk] of header.disks.entries()) {
    const at = DELTA_FIXED_HEADER_BYTES + index * DISK_ENTRY_BYTES;
    uuidBytes(disk.diskId).copy(bytes, at);
    writeBytesField(view, at + 16, disk.sizeBytes);
    bytes.writeUInt32LE(disk.granularityBytes, at + 24);
  }
  const crcAt = bytes.length - CRC_BYTES;
  bytes.writeUInt32LE(binding.crc32c(bytes.subarray(0, crcAt), 0), crcAt);
  return bytes;
}

/** The whole header's length, told from its first 32 bytes. */
export function deltaHeaderBytes(fixed: Buffer): number {
  if (fixed.readUInt32LE(0) !== MAGIC) throw corrupt("it does not begin with TMD1");
  const version = fixed.readUInt16LE(4);
  if (version !== FORMAT_VERSION) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot read the delta: its format version is ${version}, this build knows ${FORMAT_VERSION}.`,
    );
  }
  return DELTA_FIXED_HEADER_BYTES + fixed.readUInt16LE(6) * DISK_ENTRY_BYTES + CRC_BYTES;
}

/** `bytes` is exactly the header. */
export function decodeDeltaHeader(bytes: Buffer): DeltaStreamHeader {
  const crcAt = bytes.length - CRC_BYTES;
  if (bytes.readUInt32LE(crcAt) !== binding.crc32c(bytes.subarray(0, crcAt), 0)) {
    throw corrupt("its header's checksum does not hold");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const disks = Array.from({ length: bytes.readUInt16LE(6) }, (_, index) => {
    const at = DELTA_FIXED_HEADER_BYTES + index * DISK_ENTRY_BYTES;
    const sizeBytes = readBytesField(view, at + 16);
    if (sizeBytes === null) throw corrupt("a disk is larger than 2^53 bytes");
    const diskId = uuidText(bytes.subarray(at, at + 16));
    return { diskId, sizeBytes, granularityBytes: bytes.readUInt32LE(at + 24) };
  });
  return { deltaId: uuidText(bytes.subarray(16, 32)), segmentCount: bytes.readUInt32LE(8), disks };
}

export function uuidBytes(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll("-", ""), "hex");
}

export function uuidText(bytes: Buffer): string {
  const hex = bytes.toString("hex");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20, 32),
  ].join("-");
}

function corrupt(why: string): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot read the delta: ${why}.`);
}
