import { type BlockHashRequest, blankPastEnd } from "../model/block-hashes.js";
import { TidemarkError } from "../model/errors.js";
import type { OpenedPoint } from "./opened-point.js";
import type { LayerNative } from "./replica-tools.js";

/** Reads through base and layers, on the addon's threads. */
export async function hashOpenedPoint(
  native: LayerNative,
  { disks }: OpenedPoint,
  { diskIndex, extents, blockBytes }: BlockHashRequest,
): Promise<Uint8Array> {
  const disk = disks[diskIndex];
  if (disk === undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot hash blocks of disk ${diskIndex}: because the VM has ${disks.length}.`,
    );
  }
  const { diskId, sizeBytes, granularityBytes } = disk.geometry;
  const device = await native.openLayeredDevice(
    diskId,
    sizeBytes,
    granularityBytes,
    disk.basePath,
    [...disk.layerPaths],
    "",
  );
  try {
    const hashes = await device.hashBlocks(Float64Array.from(extents), blockBytes);
    return blankPastEnd(hashes, { extents, blockBytes }, sizeBytes);
  } finally {
    await device.close();
  }
}
