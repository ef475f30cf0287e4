import type { LayeredDisk, PointManifest, StoredLayer } from "./documents.js";

/** Neighbouring layers of one disk that can become one. */
export interface LayerRun {
  readonly manifest: PointManifest;
  readonly disk: LayeredDisk;
  readonly layers: readonly StoredLayer[];
}

/** Those of a point that took over others; what arrived in several layers stays so. */
export function layerRuns(manifest: PointManifest): readonly LayerRun[] {
  if (manifest.since === null) return [];
  return manifest.disks.flatMap((disk) =>
    neighbours(disk)
      .filter((layers) => layers.length > 1)
      .map((layers) => ({ manifest, disk, layers })),
  );
}

function neighbours(disk: LayeredDisk): readonly (readonly StoredLayer[])[] {
  const runs: StoredLayer[][] = [];
  for (const layer of disk.layers) {
    const run = runs.at(-1);
    const before = run?.at(-1);
    if (run === undefined || before === undefined || !fitTogether(before, layer, disk)) {
      runs.push([layer]);
    } else run.push(layer);
  }
  return runs;
}

/** A disk's last block may be partial: after a resize it would end inside another layer's. */
function fitTogether(a: StoredLayer, b: StoredLayer, disk: LayeredDisk): boolean {
  const sizes = [a, b].map((layer) => diskSizeOf(layer, disk));
  return sizes[0] === sizes[1] || sizes.every((size) => size % disk.granularityBytes === 0);
}

export function diskSizeOf(layer: StoredLayer, disk: LayeredDisk): number {
  return layer.diskSizeBytes ?? disk.sizeBytes;
}

/** The list with the run's layers replaced; null when they are not in it, one after another. */
export function withRunReplaced(
  layers: readonly StoredLayer[],
  run: readonly StoredLayer[],
  merged: StoredLayer,
): readonly StoredLayer[] | null {
  const from = layers.findIndex(({ fileName }) => fileName === run[0]?.fileName);
  const isThere = from >= 0 && run.every((one, i) => layers[from + i]?.fileName === one.fileName);
  if (!isThere) return null;
  return [...layers.slice(0, from), merged, ...layers.slice(from + run.length)];
}
