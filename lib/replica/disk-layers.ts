import type { StoredLayer } from "./documents.js";
import type { PointChain } from "./point-chain.js";

/** What a disk is made of at a point. */
export interface DiskLayers {
  /** False: it came to the VM after the base's point, so that the base has nothing of it. */
  readonly isOnBase: boolean;
  /** Oldest first. */
  readonly layers: readonly StoredLayer[];
}

/** Of a disk that the point of this sequence has. */
export function diskLayersAt(chain: PointChain, sequence: number, diskId: string): DiskLayers {
  let layers: readonly StoredLayer[] = [];
  for (const manifest of [...chain.aboveBase(sequence)].reverse()) {
    const disk = manifest.disks.find((one) => one.diskId === diskId);
    layers = [...(disk?.layers ?? []), ...layers];
    if (disk?.begins === true) return { isOnBase: false, layers };
  }
  return { isOnBase: true, layers };
}
