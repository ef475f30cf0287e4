/**
 * The layers of the oldest points, which were given up, go into the base, up to the first
 * point that is kept. Only the first and the last step hold the VM's lock; commits go on
 * during the copy.
 */
import { diskLayersAt } from "./disk-layers.js";
import type { LayeredDisk, PointManifest } from "./documents.js";
import { moveBase } from "./give-up-points.js";
import { prepareTable, recordMerge } from "./record-merge.js";
import type { ReplicaTools } from "./replica-tools.js";
import { type MergeOptions, runMerge } from "./run-merge.js";
import { settleManifests } from "./rewrite-manifest.js";
import type { VmReplica } from "./vm-replica.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Answers whether there is nothing left to do. May be repeated after a failure or a crash. */
export async function mergeIntoBase(
  tools: ReplicaTools,
  replica: VmReplica,
  options: MergeOptions,
): Promise<boolean> {
  const target = await replica.lock.run(() => beginMerge(tools, replica));
  if (target === "none") return true;
  if (target === "in use") return false;
  await copyIntoBase(tools, replica, target, options);
  return replica.lock.run(() => endMerge(tools, replica, target));
}

async function beginMerge(
  tools: ReplicaTools,
  replica: VmReplica,
): Promise<PointManifest | "none" | "in use"> {
  replica.refuseIfDamaged();
  const { files } = tools;
  const { chain, paths, pins } = replica;
  const { mergingSequence } = chain.base;
  const target = mergingSequence === null ? null : chain.at(mergingSequence);
  if (target === null) return "none";
  if (pins.lastingSequence > 0) return "in use";
  await settleManifests(files, replica);
  // No manifest of what was given up may come back once the base has newer content.
  await files.syncDirectory(paths.pointsDirectory);
  for (const disk of target.disks) {
    if (!diskLayersAt(chain, target.point.sequence, disk.diskId).isOnBase) continue;
    const basePath = paths.diskBase(disk.diskId);
    const isNew = chain.base.sequence === 0 && (await files.size(basePath)) === null;
    await files.makeDirectory(paths.diskDirectory(disk.diskId));
    await prepareTable(tools, paths.diskChecksums(disk.diskId), disk, chain.base, isNew);
    // As large as it was at the point: points that are kept may need what was cut off since.
    await files.createSparse(basePath, disk.sizeBytes);
  }
  return target;
}

/**
 * What the base has of a disk that left and came again is not what its layers lie on. Who has
 * the former file open keeps it.
 */
async function renewBase(
  tools: ReplicaTools,
  { paths, chain }: VmReplica,
  disk: LayeredDisk,
): Promise<void> {
  const { diskId, sizeBytes } = disk;
  await tools.files.removeTree(paths.diskDirectory(diskId));
  await tools.files.makeDirectory(paths.diskDirectory(diskId));
  await tools.files.createSparse(paths.diskBase(diskId), sizeBytes);
  await prepareTable(tools, paths.diskChecksums(diskId), disk, chain.base, true);
}

async function copyIntoBase(
  tools: ReplicaTools,
  replica: VmReplica,
  target: PointManifest,
  options: MergeOptions,
): Promise<void> {
  const { chain, paths } = replica;
  const { sequence } = target.point;
  const notNeeded = await (await replica.ledger()).notNeededAt(sequence);
  for (const disk of target.disks) {
    const { isOnBase, layers } = diskLayersAt(chain, sequence, disk.diskId);
    if (!isOnBase) await renewBase(tools, replica, disk);
    const layerPaths = layers
      .filter((layer) => !notNeeded.has(layer.fileName))
      .map((layer) => paths.layer(layer.fileName));
    const basePath = paths.diskBase(disk.diskId);
    const tablePath = paths.diskChecksums(disk.diskId);
    if (layerPaths.length > 0) {
      const { diskId, sizeBytes } = disk;
      const merge = await tools.native.mergeIntoBase(basePath, diskId, sizeBytes, layerPaths);
      await runMerge(merge, options);
    }
    const merged = { disk, basePath, tablePath, layerPaths, sequence };
    await recordMerge(tools, chain.base, merged, options.signal);
  }
}

/**
 * A failover that came during the copy needs the layers, also after a restart: then the
 * merge stays unfinished and is repeated later. Others keep the files until they end.
 */
async function endMerge(
  tools: ReplicaTools,
  replica: VmReplica,
  { point }: PointManifest,
): Promise<boolean> {
  const { chain, paths, pins } = replica;
  replica.refuseIfDamaged();
  if (pins.lastingSequence > 0) return false;
  const { vmId, sequence: first, mergingSequence: present } = chain.base;
  const { pointId, sequence } = point;
  const merged = chain.aboveBase(sequence);
  const mergingSequence = present === sequence ? null : present;
  await (await replica.ledger()).moveIntoBase(merged);
  await moveBase(tools, replica, { vmId, pointId, sequence, mergingSequence });
  // Only now: until then the layers were all there was of the points that stay.
  for (let gone = first; gone < sequence; gone += 1) await replica.tidy(paths.point(gone));
  const layers = merged.flatMap(({ disks }) => disks.flatMap((disk) => disk.layers));
  await replica.removeLayers(layers, 0);
  await removeGoneBases(tools, replica, sequence);
  return mergingSequence === null;
}

/** Of disks that were not the VM's any more at the point that the base holds now. */
async function removeGoneBases(
  { files }: ReplicaTools,
  { chain, paths, document }: VmReplica,
  target: number,
): Promise<void> {
  const held = chain.at(target)?.disks ?? [];
  const kept = new Set([...held, ...document.vm.disks].map(({ diskId }) => diskId));
  for (const diskId of await files.list(paths.disksDirectory)) {
    if (UUID.test(diskId) && !kept.has(diskId)) await files.removeTree(paths.diskDirectory(diskId));
  }
}
