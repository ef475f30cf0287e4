import { TidemarkError } from "../model/errors.js";
import type { NativeDevice } from "../tracking/binding.js";

const EXTENTS_AT_ONCE = 256;
/** Bit of the "base:allocation" context: the range reads as zeroes. */
const ZERO_FLAG = 2;

export interface Run {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly isZero: boolean;
}

/** What is known of a range of a device without reading it, in order. */
export async function* runsOf(
  device: NativeDevice,
  offsetBytes: number,
  lengthBytes: number,
): AsyncGenerator<Run> {
  const endBytes = offsetBytes + lengthBytes;
  for (let at = offsetBytes; at < endBytes; ) {
    const flat = await device.extents("base:allocation", at, endBytes - at, EXTENTS_AT_ONCE);
    if (flat.length === 0) {
      throw new TidemarkError(
        "INTERNAL",
        "Cannot read a disk: because a device answers no extents.",
      );
    }
    for (let i = 0; i + 1 < flat.length && at < endBytes; i += 2) {
      const runBytes = Math.min(flat[i] ?? 0, endBytes - at);
      yield {
        offsetBytes: at,
        lengthBytes: runBytes,
        isZero: ((flat[i + 1] ?? 0) & ZERO_FLAG) !== 0,
      };
      at += runBytes;
    }
  }
}
