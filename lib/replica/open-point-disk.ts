import type { NativeLayeredDevice } from "../tracking/binding.js";
import type { NativeScratchBudget } from "../tracking/layer-binding.js";
import type { PointDisk } from "./opened-point.js";
import type { LayerNative } from "./replica-tools.js";

/** Base and layers as one device; without a scratch file it is read-only. */
export function openPointDisk(
  native: Pick<LayerNative, "openLayeredDevice">,
  { geometry, basePath, layerPaths }: PointDisk,
  scratchPath = "",
  budget?: NativeScratchBudget,
): Promise<NativeLayeredDevice> {
  const { diskId, sizeBytes, granularityBytes } = geometry;
  return native.openLayeredDevice(
    diskId,
    sizeBytes,
    granularityBytes,
    basePath,
    [...layerPaths],
    scratchPath,
    budget,
  );
}
