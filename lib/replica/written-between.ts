import type { ExtentList } from "../model/block-hashes.js";
import type { DiskGeometry } from "../model/disk.js";
import type { PointManifest } from "./documents.js";
import { layerExtents } from "./layer-extents.js";
import type { PointChain } from "./point-chain.js";
import type { LayerNative } from "./replica-tools.js";
import type { VmPaths } from "./store-paths.js";

/** What lies above the older one of two points, up to the newer one. */
export function layersBetween(
  chain: PointChain,
  fromSequence: number,
  toSequence: number,
): readonly PointManifest[] {
  const [first, last] = [Math.min(fromSequence, toSequence), Math.max(fromSequence, toSequence)];
  return chain.aboveBase(last).filter(({ point }) => point.sequence > first);
}

/** What may differ of a disk; all of it, when it left on the way and came again. */
export async function writtenBetween(
  native: LayerNative,
  paths: VmPaths,
  { diskId, sizeBytes }: Pick<DiskGeometry, "diskId" | "sizeBytes">,
  between: readonly PointManifest[],
): Promise<ExtentList> {
  const hasLeft = between.some(({ disks }) => {
    const there = disks.find((one) => one.diskId === diskId);
    return there === undefined || there.begins === true;
  });
  return hasLeft ? [0, sizeBytes] : layerExtents(native, paths, diskId, between);
}
