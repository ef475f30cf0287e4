import type { SegmentPlan } from "../model/delta.js";
import { binding, type NativeCapture } from "./binding.js";
import { encodeRecordHeader, encodeSegmentHeader, SegmentTotals } from "./segment-encoder.js";
import { MAX_RECORD_CONTENT_BYTES, RECORD_HEADER_BYTES, RecordType } from "./segment-format.js";

/**
 * How much content is read at once: the unit of memory of a lane. Two of them
 * are in use, one being read while the other is on its way.
 */
const BATCH_CONTENT_BYTES = 2 << 20;

/** Extents that are read together, and the bytes that they take with their record headers. */
interface Batch {
  readonly extents: Float64Array;
  readonly recordBytes: number;
}

/**
 * The record bytes of a planned segment, read from its capture. Works in any
 * thread of the process. The yielded chunks are valid until the next one is
 * asked for: their memory is used again.
 */
export async function* openSegmentRecords(
  plan: SegmentPlan,
  deltaId: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const capture = binding.attachCapture(plan.captureId);
  try {
    yield encodeSegmentHeader({ deltaId, ...plan });
    const totals = new SegmentTotals();
    yield* readAndFrame(capture, planBatches(plan.extents), totals, signal);
    yield totals.encodeEnd();
  } finally {
    capture.detach();
  }
}

/** Reads the next batch while the last one is on its way. */
async function* readAndFrame(
  capture: NativeCapture,
  batches: readonly Batch[],
  totals: SegmentTotals,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  let [buffer, spare] = [takeBuffer(batches), takeBuffer(batches)];
  let reading = readBatch(capture, batches[0], buffer);
  for (const index of batches.keys()) {
    const content = await reading;
    signal?.throwIfAborted();
    reading = readBatch(capture, batches[index + 1], spare);
    // A failure is met when it is awaited; until then it must not count as unhandled.
    reading.catch(() => {});
    if (content !== null) yield* frameBatch(buffer, content, totals);
    [buffer, spare] = [spare, buffer];
  }
  giveBack(buffer, spare);
}

type BatchContent = Awaited<ReturnType<NativeCapture["readChanged"]>>;

async function readBatch(
  capture: NativeCapture,
  batch: Batch | undefined,
  into: Buffer,
): Promise<BatchContent | null> {
  if (batch === undefined) return null;
  return capture.readChanged(batch.extents, into, RECORD_HEADER_BYTES);
}

/** Splits the extents into records of at most 1 MiB and those into batches. */
function planBatches(extents: Float64Array): Batch[] {
  const batches: Batch[] = [];
  let pairs: number[] = [];
  let contentBytes = 0;
  const close = () => {
    if (pairs.length === 0) return;
    const recordBytes = contentBytes + (pairs.length / 2) * RECORD_HEADER_BYTES;
    batches.push({ extents: Float64Array.from(pairs), recordBytes });
    pairs = [];
    contentBytes = 0;
  };
  for (const [offsetBytes, lengthBytes] of recordsOf(extents)) {
    if (contentBytes + lengthBytes > BATCH_CONTENT_BYTES) close();
    pairs.push(offsetBytes, lengthBytes);
    contentBytes += lengthBytes;
  }
  close();
  return batches;
}

function* recordsOf(extents: Float64Array): Generator<readonly [number, number]> {
  for (let i = 0; i + 1 < extents.length; i += 2) {
    let offsetBytes = extents[i] ?? 0;
    let leftBytes = extents[i + 1] ?? 0;
    while (leftBytes > 0) {
      const lengthBytes = Math.min(leftBytes, MAX_RECORD_CONTENT_BYTES);
      yield [offsetBytes, lengthBytes];
      offsetBytes += lengthBytes;
      leftBytes -= lengthBytes;
    }
  }
}

/** Holds a batch of blocks of 1 KiB and more, each with its record header. */
const BUFFER_BYTES = BATCH_CONTENT_BYTES + (BATCH_CONTENT_BYTES / 1024) * RECORD_HEADER_BYTES;
const MAX_SPARE_BUFFERS = 4;
/** Of this thread, from segments that were read to their end: no read is under way into them. */
const spareBuffers: Buffer[] = [];

function takeBuffer(batches: readonly Batch[]): Buffer {
  const leastBytes = Math.max(0, ...batches.map((batch) => batch.recordBytes));
  const isUsual = leastBytes > BUFFER_BYTES / 4 && leastBytes <= BUFFER_BYTES;
  if (!isUsual) return Buffer.allocUnsafe(leastBytes);
  return spareBuffers.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
}

function giveBack(...buffers: readonly Buffer[]): void {
  for (const buffer of buffers) {
    const isUsual = buffer.length === BUFFER_BYTES;
    if (isUsual && spareBuffers.length < MAX_SPARE_BUFFERS) spareBuffers.push(buffer);
  }
}

/**
 * Fills in the record headers. Neighbouring DATA records leave as one chunk; a
 * zero record's content is left out, as is what lies between two runs.
 */
function* frameBatch(
  buffer: Buffer,
  { runs, crcs, zeros }: BatchContent,
  totals: SegmentTotals,
): Generator<Uint8Array> {
  let chunkStart = 0;
  let chunkEnd = 0;
  for (let i = 0; i < crcs.length; i += 1) {
    const [position = 0, offsetBytes = 0, lengthBytes = 0] = runs.subarray(3 * i, 3 * i + 3);
    const headerAt = position - RECORD_HEADER_BYTES;
    if (headerAt !== chunkEnd) {
      if (chunkEnd > chunkStart) yield buffer.subarray(chunkStart, chunkEnd);
      chunkStart = headerAt;
    }
    const isZero = zeros[i] === 1;
    const type = isZero ? RecordType.ZERO : RecordType.DATA;
    const header = buffer.subarray(headerAt, position);
    encodeRecordHeader(header, type, offsetBytes, lengthBytes, crcs[i] ?? 0);
    totals.add(lengthBytes);
    chunkEnd = position + lengthBytes;
    if (!isZero) continue;
    yield buffer.subarray(chunkStart, position);
    chunkStart = chunkEnd;
  }
  if (chunkEnd > chunkStart) yield buffer.subarray(chunkStart, chunkEnd);
}
