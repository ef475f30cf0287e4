import type { SegmentReceipt, SegmentSink } from "../model/delta.js";
import type { FilePart, FillFromFile } from "../model/seed.js";
import { binding, type NativeDevice } from "../tracking/binding.js";
import { opened } from "../tracking/native-call.js";
import {
  encodeRecordHeader,
  encodeSegmentHeader,
  SegmentTotals,
} from "../tracking/segment-encoder.js";
import {
  MAX_RECORD_CONTENT_BYTES,
  RECORD_HEADER_BYTES,
  RecordType,
} from "../tracking/segment-format.js";
import { openSegmentSink } from "./segment-sink.js";

/** What is looked at for zeroes at once. */
const RUN_BYTES = 64 * 1024;
const ZEROES = Buffer.alloc(MAX_RECORD_CONTENT_BYTES);

/** For worker threads: hashing and writing are synchronous. The file is only read. */
export const fillFromFile: FillFromFile = async (slot, part, signal) => {
  const device = await opened(part.path, () =>
    binding.openFileDevice(part.path, true, false, "exclusive"),
  );
  try {
    return await fillSink(await openSegmentSink(slot), device, part, signal);
  } finally {
    await device.close();
  }
};

async function fillSink(
  sink: SegmentSink,
  device: NativeDevice,
  part: FilePart,
  signal: AbortSignal | undefined,
): Promise<SegmentReceipt | null> {
  try {
    const totals = new SegmentTotals();
    await sink.write(encodeSegmentHeader(part));
    for await (const record of recordsOf(device, part, totals)) {
      signal?.throwIfAborted();
      await sink.write(record);
    }
    if (totals.recordCount === 0) {
      await sink.abort();
      return null;
    }
    await sink.write(totals.encodeEnd());
    return { ...(await sink.finish()), wireBytes: 0 };
  } catch (thrown) {
    await sink.abort();
    throw thrown;
  }
}

async function* recordsOf(
  device: NativeDevice,
  { offsetBytes, lengthBytes, granularityBytes, diskSizeBytes }: FilePart,
  totals: SegmentTotals,
): AsyncGenerator<Buffer, void, void> {
  const stepBytes = Math.max(RUN_BYTES, granularityBytes);
  const endBytes = Math.min(offsetBytes + lengthBytes, diskSizeBytes);
  const content = Buffer.alloc(MAX_RECORD_CONTENT_BYTES);
  for (let at = offsetBytes; at < endBytes; at += MAX_RECORD_CONTENT_BYTES) {
    const pieceBytes = Math.min(MAX_RECORD_CONTENT_BYTES, endBytes - at);
    await readPadded(device, at, content.subarray(0, pieceBytes));
    for (const [from, to] of runsOf(content.subarray(0, pieceBytes), stepBytes)) {
      totals.add(to - from);
      yield dataRecord(at + from, content.subarray(from, to));
    }
  }
}

/** What is missing up to the disk's size reads as zeroes. */
async function readPadded(device: NativeDevice, at: number, into: Buffer): Promise<void> {
  const there = Math.max(0, Math.min(into.length, device.sizeBytes - at));
  if (there > 0) await device.read(at, into.subarray(0, there));
  into.fill(0, there);
}

/** From where to where something is not zero. */
function* runsOf(piece: Buffer, stepBytes: number): Generator<readonly [number, number]> {
  let start = -1;
  for (let at = 0; at < piece.length; at += stepBytes) {
    const part = piece.subarray(at, at + stepBytes);
    const isZero = part.equals(ZEROES.subarray(0, part.length));
    if (isZero && start >= 0) yield [start, at];
    start = isZero ? -1 : start < 0 ? at : start;
  }
  if (start >= 0) yield [start, piece.length];
}

function dataRecord(offsetBytes: number, content: Buffer): Buffer {
  const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + content.length);
  content.copy(record, RECORD_HEADER_BYTES);
  const header = record.subarray(0, RECORD_HEADER_BYTES);
  encodeRecordHeader(
    header,
    RecordType.DATA,
    offsetBytes,
    content.length,
    binding.crc32c(content, 0),
  );
  return record;
}
