/** The bytes of docs/formats/delta-stream.md, version 1; little endian. */
export const SEGMENT_MAGIC = 0x31534d54;
export const SEGMENT_FORMAT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 40;
export const RECORD_HEADER_BYTES = 24;
export const MAX_RECORD_CONTENT_BYTES = 1 << 20;

export const RecordType = { DATA: 1, ZERO: 2, END: 3 } as const;

/** Offsets and lengths are at most 2^53 - 1. */
export function writeBytesField(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** Null when the number is not exact in JavaScript. */
export function readBytesField(view: DataView, at: number): number | null {
  const high = view.getUint32(at + 4, true);
  if (high >= 2 ** 21) return null;
  return high * 2 ** 32 + view.getUint32(at, true);
}
