import type { ExtentList } from "../model/block-hashes.js";
import type { PointManifest } from "./documents.js";
import { layerExtents } from "./layer-extents.js";
import { openedPoint } from "./opened-point.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { VmReplica } from "./vm-replica.js";

/**
 * Where the head may hold something else of a disk than that point, from the indexes of the
 * layers after it. Null: not known, because the disk was resized, came or went meanwhile.
 */
export async function changesAfter(
  { native }: ReplicaTools,
  replica: VmReplica,
  pointId: string,
  diskId: string,
): Promise<ExtentList | null> {
  const { head, fork } = await replica.lock.run(async () => {
    const headId = replica.chain.head()?.point.pointId ?? "";
    return {
      // Nothing of what lies between is merged away.
      head: await openedPoint(replica, headId, "passing"),
      fork: replica.chain.find(pointId),
    };
  });
  try {
    if (fork === null) return null;
    const after = replica.chain
      .aboveBase(head.point.sequence)
      .filter(({ point }) => point.sequence > fork.point.sequence);
    if (!isSameDisk(diskId, fork, after)) return null;
    return await layerExtents(native, replica.paths, diskId, after);
  } finally {
    head.release();
  }
}

function isSameDisk(diskId: string, fork: PointManifest, after: readonly PointManifest[]): boolean {
  const of = (manifest: PointManifest) => manifest.disks.find((disk) => disk.diskId === diskId);
  const sizeBytes = of(fork)?.sizeBytes;
  return after.every((manifest) => {
    const disk = of(manifest);
    return disk !== undefined && disk.begins !== true && disk.sizeBytes === sizeBytes;
  });
}
