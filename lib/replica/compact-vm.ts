/**
 * Retention: the oldest points are given up and their layers merged into the
 * base. Only the first and the last step hold the VM's lock; commits go on
 * during the copy.
 */
import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import { BASE_DOCUMENT, type BaseDocument } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import { mergeLayers } from "./merge-layers.js";
import { geometryAt } from "./opened-point.js";
import type { PointChain } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { VmReplica } from "./vm-replica.js";

export async function compactVm(
  tools: ReplicaTools,
  replica: VmReplica,
  retainPoints: number,
  signal?: AbortSignal,
): Promise<boolean> {
  if (!Number.isSafeInteger(retainPoints) || retainPoints < 1) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot keep ${retainPoints} recovery points: because it is no number from 1 on.`,
    );
  }
  const target = await replica.lock.run(() => beginMerge(tools, replica, retainPoints));
  if (target === "none") return true;
  if (target === "in use") return false;
  await copyIntoBase(tools, replica, target, signal);
  return replica.lock.run(() => endMerge(tools, replica, target));
}

/** From here on the points before the target are given up: the base will not hold them again. */
async function beginMerge(
  tools: ReplicaTools,
  replica: VmReplica,
  retainPoints: number,
): Promise<number | "none" | "in use"> {
  replica.refuseIfDamaged();
  const { chain, paths, document } = replica;
  const { base } = chain;
  const target =
    base.mergingSequence ?? chain.shown().at(-retainPoints)?.point.sequence ?? base.sequence;
  if (target <= base.sequence) return "none";
  if (!replica.pins.isEmpty) return "in use";
  for (const disk of disksAt(chain, target, document.vm.disks)) {
    await tools.files.createSparse(paths.diskBase(disk.diskId), disk.sizeBytes);
  }
  if (base.mergingSequence === null) {
    await moveBase(tools, replica, { ...base, mergingSequence: target });
  }
  return target;
}

/** As large as they were at the point: points that are kept may need what was cut off since. */
function disksAt(
  chain: PointChain,
  sequence: number,
  present: readonly DiskGeometry[],
): readonly DiskGeometry[] {
  const manifest = chain.aboveBase(sequence).at(-1);
  return manifest === undefined ? present : present.map((disk) => geometryAt(manifest, disk));
}

async function copyIntoBase(
  tools: ReplicaTools,
  { chain, document, paths }: VmReplica,
  target: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const disk of disksAt(chain, target, document.vm.disks)) {
    const layerPaths = chain
      .aboveBase(target)
      .flatMap((manifest) => manifest.disks.filter(({ diskId }) => diskId === disk.diskId))
      .flatMap(({ layers }) => layers.map((layer) => paths.layer(layer.fileName)));
    if (layerPaths.length === 0) continue;
    await mergeLayers(tools.native, disk, paths.diskBase(disk.diskId), layerPaths, signal);
  }
}

/**
 * Readers that came during the copy still need the layers, also after a
 * restart: then the merge stays unfinished and is repeated later.
 */
async function endMerge(tools: ReplicaTools, replica: VmReplica, target: number): Promise<boolean> {
  const { chain, paths } = replica;
  replica.refuseIfDamaged();
  if (!replica.pins.isEmpty) return false;
  const merged = chain.aboveBase(target);
  const last = merged.at(-1)?.point;
  if (last?.sequence !== target) return false;
  const first = chain.base.sequence;
  const { vmId } = chain.base;
  const { pointId } = last;
  await moveBase(tools, replica, { vmId, pointId, sequence: target, mergingSequence: null });
  // Only now: until then the layers were all there was of the points that stay.
  for (let sequence = first; sequence < target; sequence += 1) {
    await tools.files.remove(paths.point(sequence));
  }
  for (const layer of merged.flatMap(({ disks }) => disks.flatMap((disk) => disk.layers))) {
    await tools.files.remove(paths.layer(layer.fileName));
  }
  return true;
}

async function moveBase(
  tools: ReplicaTools,
  replica: VmReplica,
  base: BaseDocument,
): Promise<void> {
  await writeDocument(tools.files, BASE_DOCUMENT, replica.paths.baseFile, base);
  replica.chain.moveBase(base);
}
