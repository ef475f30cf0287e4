import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import { diskLayersAt } from "./disk-layers.js";
import type { LayeredDisk, PointManifest } from "./documents.js";
import type { PointUse } from "./pins.js";
import type { VmReplica } from "./vm-replica.js";

/** The files that a disk is made of at a recovery point. */
export interface PointDisk {
  readonly geometry: DiskGeometry;
  /** "" while nothing has been merged into the base. */
  readonly basePath: string;
  /** Oldest first. */
  readonly layerPaths: readonly string[];
  /** Not replicated: an empty disk of its size stands for it. */
  readonly isPlaceholder: boolean;
}

export interface OpenedDisks {
  readonly disks: readonly PointDisk[];
  release(): void;
}

/** A recovery point that retention leaves alone until it is released. */
export interface OpenedPoint extends OpenedDisks {
  readonly point: RecoveryPoint;
  /** Those that the VM had at the point. */
  readonly disks: readonly PointDisk[];
  /** Those that it has now and did not have then. */
  readonly absentDisks: readonly DiskGeometry[];
}

/** Under the VM's lock. NOT_FOUND. */
export async function openedPoint(
  replica: VmReplica,
  pointId: string,
  use: PointUse,
): Promise<OpenedPoint> {
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
  const notNeeded = await (await replica.ledger()).notNeededAt(manifest.point.sequence);
  const hasBase = base.sequence > 0;
  const known = [...document.vm.disks, ...(document.vm.excludedDisks ?? [])];
  const held = manifest.disks.map((disk) => {
    const { isOnBase, layers } = diskLayersAt(chain, manifest.point.sequence, disk.diskId);
    return {
      geometry: geometryOf(disk, known),
      basePath: hasBase && isOnBase ? paths.diskBase(disk.diskId) : "",
      layerPaths: layers
        .filter((layer) => !notNeeded.has(layer.fileName))
        .map((layer) => paths.layer(layer.fileName)),
      isPlaceholder: false,
    };
  });
  const disks = [...held, ...placeholders(manifest)];
  const then = new Set(disks.map(({ geometry }) => geometry.diskId));
  const absentDisks = known.filter(({ diskId }) => !then.has(diskId));
  const release = replica.pins.pin(manifest.point, use);
  return { point: manifest.point, disks, absentDisks, release };
}

function placeholders({ excludedDisks = [] }: PointManifest): readonly PointDisk[] {
  return excludedDisks.map((geometry) => ({
    geometry,
    basePath: "",
    layerPaths: [],
    isPlaceholder: true,
  }));
}

/** The head, or the staging session above it. */
export async function openedForHashes(replica: VmReplica, id: string): Promise<OpenedDisks> {
  const { session, chain, document, paths } = replica;
  if (session?.sessionId !== id) return openedPoint(replica, id, "passing");
  const head = chain.head();
  const below = head === null ? null : await openedPoint(replica, head.point.pointId, "passing");
  const disks = document.vm.disks.map((geometry) => {
    const held = below?.disks.find((disk) => disk.geometry.diskId === geometry.diskId);
    const staged = session.layers(geometry.diskId).map((layer) => paths.layer(layer.fileName));
    return {
      geometry,
      basePath: held?.basePath ?? "",
      layerPaths: [...(held?.layerPaths ?? []), ...staged],
      isPlaceholder: false,
    };
  });
  return { disks, release: () => below?.release() };
}

/** Of the disk as it was at the point; it may have been resized since, or removed. */
export function geometryOf(disk: LayeredDisk, known: readonly DiskGeometry[]): DiskGeometry {
  const { diskId, sizeBytes, granularityBytes } = disk;
  const present = known.find((one) => one.diskId === diskId);
  const name = disk.name ?? present?.name ?? `disk-${diskId.slice(0, 8)}`;
  return { diskId, name, sizeBytes, granularityBytes };
}
