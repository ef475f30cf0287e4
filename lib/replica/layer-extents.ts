import type { ExtentList } from "../model/block-hashes.js";
import { unionOf } from "../model/extent-list.js";
import type { PointManifest } from "./documents.js";
import type { LayerNative } from "./replica-tools.js";
import type { VmPaths } from "./store-paths.js";

const EXTENTS_AT_ONCE = 4096;

/** What the layers of these points say something of, zeroes too; from their indexes alone. */
export async function layerExtents(
  native: LayerNative,
  paths: VmPaths,
  diskId: string,
  manifests: readonly PointManifest[],
  /** Names of layers that cannot be read. */
  leftOut: ReadonlySet<string> = new Set(),
): Promise<ExtentList> {
  const lists: ExtentList[] = [];
  const layers = manifests
    .flatMap((manifest) => manifest.disks.filter((disk) => disk.diskId === diskId))
    .flatMap((disk) => disk.layers);
  for (const { fileName } of layers) {
    if (leftOut.has(fileName)) continue;
    lists.push(await extentsOfLayer(native, paths.layer(fileName), diskId));
  }
  return unionOf(...lists);
}

async function extentsOfLayer(
  native: LayerNative,
  path: string,
  diskId: string,
): Promise<ExtentList> {
  const layer = await native.openLayer(path, diskId);
  const extents: number[] = [];
  try {
    for (let at = 0; ; ) {
      const flat = layer.extents(at, EXTENTS_AT_ONCE);
      if (flat.length === 0) return extents;
      for (let i = 0; i < flat.length; i += 3) extents.push(flat[i] ?? 0, flat[i + 1] ?? 0);
      at = (extents.at(-2) ?? 0) + (extents.at(-1) ?? 0);
    }
  } finally {
    await layer.close();
  }
}
