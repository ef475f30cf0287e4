/**
 * Where MemoryReplica's segments arrive: one SharedArrayBuffer a slot, so that a
 * sink may run in another thread. The first 8 bytes hold the count of record
 * bytes (little endian), the record bytes follow. Writing costs one copy.
 */
import { createHash } from "node:crypto";
import type { SegmentReceipt, SegmentSink } from "./delta.js";
import { TidemarkError } from "./errors.js";
import type { OpenSegmentSink, SegmentSlot } from "./segment-receiver.js";

const COUNT_BYTES = 8;

/** One record of a segment as read: content, or null for a range of zeroes. */
export interface DecodedExtent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly content: Uint8Array | null;
}

export interface DecodedSegment {
  readonly deltaId: string;
  readonly diskIndex: number;
  readonly segmentIndex: number;
  readonly extents: readonly DecodedExtent[];
}

/** Reads the record bytes of a segment; throws CORRUPT, TRUNCATED, VERSION_UNKNOWN. */
export type DecodeSegment = (recordBytes: Uint8Array) => DecodedSegment;

export interface MemorySlotPlace {
  readonly bytes: SharedArrayBuffer;
}

export function memorySlotPlace(capacityBytes: number): MemorySlotPlace {
  return { bytes: new SharedArrayBuffer(COUNT_BYTES + capacityBytes) };
}

/** The record bytes that a sink has written so far, as a copy. */
export function memorySlotBytes(place: MemorySlotPlace): Uint8Array {
  const count = Number(new DataView(place.bytes).getBigUint64(0, true));
  return new Uint8Array(place.bytes, COUNT_BYTES, count).slice();
}

/** Opens the slots of a MemoryReplica, in whichever thread holds the decoder. */
export function memorySegmentSinks(decode: DecodeSegment): OpenSegmentSink {
  return async (slot: SegmentSlot) => new MemorySegmentSink(slot.place as MemorySlotPlace, decode);
}

export function receiptOf(recordBytes: Uint8Array, segment: DecodedSegment): SegmentReceipt {
  let dataBytes = 0;
  let zeroBytes = 0;
  for (const extent of segment.extents) {
    if (extent.content === null) zeroBytes += extent.lengthBytes;
    else dataBytes += extent.lengthBytes;
  }
  return {
    segmentIndex: segment.segmentIndex,
    sha256: createHash("sha256").update(recordBytes).digest("hex"),
    dataBytes,
    zeroBytes,
    wireBytes: recordBytes.length,
  };
}

class MemorySegmentSink implements SegmentSink {
  readonly #place: MemorySlotPlace;
  readonly #decode: DecodeSegment;
  #count = 0;

  constructor(place: MemorySlotPlace, decode: DecodeSegment) {
    this.#place = place;
    this.#decode = decode;
    this.#setCount(0);
  }

  write(recordBytes: Uint8Array): undefined {
    const end = COUNT_BYTES + this.#count + recordBytes.length;
    if (end > this.#place.bytes.byteLength) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        "Cannot receive the segment: because it is longer than was announced.",
      );
    }
    new Uint8Array(this.#place.bytes).set(recordBytes, COUNT_BYTES + this.#count);
    this.#setCount(this.#count + recordBytes.length);
  }

  async finish(): Promise<Omit<SegmentReceipt, "wireBytes">> {
    const recordBytes = memorySlotBytes(this.#place);
    const { wireBytes: _, ...receipt } = receiptOf(recordBytes, this.#decode(recordBytes));
    return receipt;
  }

  async abort(): Promise<void> {
    this.#setCount(0);
  }

  #setCount(count: number): void {
    this.#count = count;
    new DataView(this.#place.bytes).setBigUint64(0, BigInt(count), true);
  }
}
