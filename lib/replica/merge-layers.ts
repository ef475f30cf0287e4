import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import type { NativeDevice } from "../tracking/binding.js";
import type { LayerNative } from "./replica-tools.js";

const COPY_BYTES = 1 << 20;
const EXTENTS_AT_ONCE = 256;
/** Bit of the "base:allocation" context: the range reads as zeroes. */
const ZERO_FLAG = 2;

/**
 * Writes what the layers hold into the base, and makes it durable. Readers of
 * points that have these layers above the base never notice; repeating it
 * changes nothing.
 */
export async function mergeLayers(
  native: LayerNative,
  disk: DiskGeometry,
  basePath: string,
  layerPaths: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const open = (below: string) =>
    native.openLayeredDevice(
      disk.diskId,
      disk.sizeBytes,
      disk.granularityBytes,
      below,
      [...layerPaths],
      "",
    );
  const base = await native.openFileDevice(basePath, false, false, "none");
  const layersAlone = await open("");
  const merged = await open(basePath);
  try {
    await copyData(layersAlone, base, signal);
    await zeroWhatReadsAsZero(merged, base, signal);
    await base.flush();
  } finally {
    for (const device of [merged, layersAlone, base]) await device.close();
  }
}

async function copyData(
  from: NativeDevice,
  to: NativeDevice,
  signal: AbortSignal | undefined,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(COPY_BYTES);
  for await (const run of runsOf(from, 0, from.sizeBytes)) {
    if (run.isZero) continue;
    const endBytes = run.offsetBytes + run.lengthBytes;
    for (let at = run.offsetBytes; at < endBytes; at += COPY_BYTES) {
      signal?.throwIfAborted();
      const piece = buffer.subarray(0, Math.min(COPY_BYTES, endBytes - at));
      await from.read(at, piece);
      await to.write(at, piece);
    }
  }
}

/** Where the layers say zero, the base may still hold data of an older point. */
async function zeroWhatReadsAsZero(
  merged: NativeDevice,
  base: NativeDevice,
  signal: AbortSignal | undefined,
): Promise<void> {
  for await (const run of runsOf(merged, 0, merged.sizeBytes)) {
    if (!run.isZero) continue;
    for await (const stale of runsOf(base, run.offsetBytes, run.lengthBytes)) {
      signal?.throwIfAborted();
      if (!stale.isZero) await base.writeZeroes(stale.offsetBytes, stale.lengthBytes);
    }
  }
}

interface Run {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly isZero: boolean;
}

async function* runsOf(
  device: NativeDevice,
  offsetBytes: number,
  lengthBytes: number,
): AsyncGenerator<Run> {
  const endBytes = offsetBytes + lengthBytes;
  for (let at = offsetBytes; at < endBytes; ) {
    const flat = await device.extents("base:allocation", at, endBytes - at, EXTENTS_AT_ONCE);
    if (flat.length === 0) {
      throw new TidemarkError("INTERNAL", "Cannot merge: because a device answers no extents.");
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
