import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { PointManifest } from "./documents.js";
import type { LayerNative } from "./replica-tools.js";
import type { VmReplica } from "./vm-replica.js";

/** The files that a disk is made of at a recovery point. */
export interface PointDisk {
  readonly geometry: DiskGeometry;
  /** "" while nothing has been merged into the base. */
  readonly basePath: string;
  /** Oldest first. */
  readonly layerPaths: readonly string[];
}

/** A recovery point that retention leaves alone until it is released. */
export interface OpenedPoint {
  readonly point: RecoveryPoint;
  readonly disks: readonly PointDisk[];
  release(): void;
}

export function openedPoint(replica: VmReplica, pointId: string): OpenedPoint {
  const { chain, document, paths } = replica;
  const manifest = chain.find(pointId);
  if (manifest === null) {
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot open recovery point ${pointId}: because VM ${document.vm.vmId} has none of that id.`,
      { hint: "List the VM's recovery points and choose one of them." },
    );
  }
  const { base } = chain;
  const hasBase = base.sequence > 0 || base.mergingSequence !== null;
  const above = chain.aboveBase(manifest.point.sequence);
  const disks = document.vm.disks.map((geometry) => ({
    geometry: geometryAt(manifest, geometry),
    basePath: hasBase ? paths.diskBase(geometry.diskId) : "",
    layerPaths: above
      .flatMap((one) => one.disks.filter((disk) => disk.diskId === geometry.diskId))
      .flatMap((disk) => disk.layers.map((layer) => paths.layer(layer.fileName))),
  }));
  return { point: manifest.point, disks, release: replica.pins.pin(pointId) };
}

/** Of the disk as it was at the point; it may have been resized since. */
export function geometryAt(manifest: PointManifest, present: DiskGeometry): DiskGeometry {
  const then = manifest.disks.find((disk) => disk.diskId === present.diskId);
  if (then === undefined) return present;
  const { sizeBytes, granularityBytes } = then;
  return { ...present, sizeBytes, granularityBytes };
}

export async function verifyOpenedPoint(
  native: LayerNative,
  point: OpenedPoint,
  signal?: AbortSignal,
): Promise<void> {
  for (const { geometry, layerPaths } of point.disks) {
    for (const path of layerPaths) {
      signal?.throwIfAborted();
      await native.verifyLayer(path, geometry.diskId, true);
    }
  }
}
