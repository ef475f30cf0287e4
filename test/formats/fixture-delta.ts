/**
 * The content of test/fixtures/formats/delta-v1, made from the format page with
 * an encoder of the tests' own. To write it again (a new format version gets a
 * fixture of its own): node --import tsx test/formats/fixture-delta.ts PATH
 */
import { writeFileSync } from "node:fs";
import { encodeSegment, type PlainSegment, plainCrc32c } from "../contracts/segment-bytes.js";

const DELTA_ID = "7d0f3c52-6c1e-4a9b-8f64-2b1d5e9a0c33";
const DISKS = [
  { diskId: "11111111-2222-4333-8444-555555555555", sizeBytes: 1_000_000, granularityBytes: 4096 },
  { diskId: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", sizeBytes: 65_536, granularityBytes: 4096 },
];

function content(lengthBytes: number, seed: number): Buffer {
  return Buffer.from(
    Uint8Array.from({ length: lengthBytes }, (_, index) => (index * 31 + seed) % 251),
  );
}

const SEGMENTS: readonly PlainSegment[] = [
  {
    deltaId: DELTA_ID,
    diskIndex: 0,
    segmentIndex: 0,
    granularity: 4096,
    records: [
      { offset: 0, length: 4096, data: content(4096, 1) },
      { offset: 8192, length: 12_288, data: null },
      { offset: 999_424, length: 576, data: content(576, 2) },
    ],
  },
  {
    deltaId: DELTA_ID,
    diskIndex: 1,
    segmentIndex: 1,
    granularity: 4096,
    records: [{ offset: 4096, length: 8192, data: content(8192, 3) }],
  },
];

function uuidBytes(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll("-", ""), "hex");
}

function encodeHeader(): Buffer {
  const fixed = Buffer.alloc(16);
  fixed.write("TMD1", "latin1");
  fixed.writeUInt16LE(1, 4);
  fixed.writeUInt16LE(DISKS.length, 6);
  fixed.writeUInt32LE(SEGMENTS.length, 8);
  const disks = DISKS.map(({ diskId, sizeBytes, granularityBytes }) => {
    const numbers = Buffer.alloc(16);
    numbers.writeBigUInt64LE(BigInt(sizeBytes), 0);
    numbers.writeUInt32LE(granularityBytes, 8);
    return Buffer.concat([uuidBytes(diskId), numbers]);
  });
  const header = Buffer.concat([fixed, uuidBytes(DELTA_ID), ...disks]);
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(plainCrc32c(header), 0);
  return Buffer.concat([header, crc]);
}

export function fixtureDelta() {
  const header = encodeHeader();
  const parts = [header, ...SEGMENTS.map(encodeSegment)];
  let end = header.length;
  const segmentEnds = parts.slice(1).map((part) => {
    end += part.length;
    return end;
  });
  const records = SEGMENTS.flatMap(({ diskIndex, records: own }) =>
    own.map((record) => ({
      diskIndex,
      offsetBytes: record.offset,
      content: record.data === null ? record.length : Buffer.from(record.data),
    })),
  );
  return { bytes: Buffer.concat(parts), headerBytes: header.length, segmentEnds, records };
}

const [, script, path] = process.argv;
if (path !== undefined && script?.endsWith("fixture-delta.ts") === true)
  writeFileSync(path, fixtureDelta().bytes);
