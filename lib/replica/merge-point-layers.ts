/**
 * The layers that a point took over from points given up become one. The new layer is whole
 * and durable before the manifest names it in their place; they go after that. A crash
 * leaves a layer too many, which nothing names, or the old ones, which nothing names.
 */
import { randomUUID } from "node:crypto";
import type { StoredLayer } from "./documents.js";
import { diskSizeOf, type LayerRun, layerRuns, withRunReplaced } from "./layer-runs.js";
import type { ReplicaTools } from "./replica-tools.js";
import { rewriteManifest, settleManifests } from "./rewrite-manifest.js";
import { type MergeOptions, runMerge } from "./run-merge.js";
import { layerFileName } from "./store-paths.js";
import type { VmReplica } from "./vm-replica.js";

/** Answers whether there is nothing left to do. May be repeated after a failure or a crash. */
export async function mergePointLayers(
  tools: ReplicaTools,
  replica: VmReplica,
  options: MergeOptions,
): Promise<boolean> {
  for (;;) {
    const { run, isBlocked } = nextRun(replica);
    if (run === null) return !isBlocked;
    const merged = await mergeRun(tools, replica, run, options);
    const isDone = await replica.lock.run(() => replaceRun(tools, replica, run, merged));
    if (!isDone) return false;
  }
}

/** The oldest; those below a point that is in lasting use are left alone. */
function nextRun(replica: VmReplica): { run: LayerRun | null; isBlocked: boolean } {
  replica.refuseIfDamaged();
  const { chain, pins } = replica;
  const runs = chain
    .shown()
    .filter(({ point }) => point.sequence > chain.base.sequence)
    .flatMap(layerRuns);
  const { lastingSequence } = pins;
  const run = runs.find(({ manifest }) => manifest.point.sequence > lastingSequence) ?? null;
  return { run, isBlocked: runs.length > 0 };
}

async function mergeRun(
  { native, files }: ReplicaTools,
  { paths }: VmReplica,
  { manifest, disk, layers }: LayerRun,
  options: MergeOptions,
): Promise<StoredLayer> {
  const fileName = layerFileName(randomUUID(), 0);
  const path = paths.layer(fileName);
  const diskSizeBytes = Math.max(...layers.map((layer) => diskSizeOf(layer, disk)));
  const { diskId, granularityBytes } = disk;
  const { generation, sequence } = manifest.point;
  const identity = { diskId, lineage: generation.id, sequence, diskSizeBytes, granularityBytes };
  const sources = layers.map((layer) => paths.layer(layer.fileName));
  try {
    const merge = await native.mergeIntoLayer(path, identity, sources);
    const { checksum, dataBytes, zeroBytes } = await runMerge(merge, options);
    await files.syncDirectory(paths.layersDirectory);
    const fileBytes = (await files.size(path))?.sizeBytes ?? 0;
    return { fileName, fileBytes, checksum, dataBytes, zeroBytes, diskSizeBytes };
  } catch (thrown) {
    await files.remove(path).catch(() => undefined);
    throw thrown;
  }
}

/** The layers may have gone on to another point meanwhile; they are replaced where they are. */
async function replaceRun(
  { files }: ReplicaTools,
  replica: VmReplica,
  { disk: { diskId }, layers: run }: LayerRun,
  merged: StoredLayer,
): Promise<boolean> {
  replica.refuseIfDamaged();
  await settleManifests(files, replica);
  const { chain, pins } = replica;
  const found = chain
    .aboveBase(Number.MAX_SAFE_INTEGER)
    .find(({ disks }) => disks.some(({ layers }) => withRunReplaced(layers, run, merged) !== null));
  if (found === undefined || found.point.sequence <= pins.lastingSequence) {
    await replica.removeLayers([merged], 0);
    return false;
  }
  const disks = found.disks.map((disk) => {
    const isThis = disk.diskId === diskId;
    return {
      ...disk,
      layers: (isThis ? withRunReplaced(disk.layers, run, merged) : null) ?? disk.layers,
    };
  });
  const { sequence } = found.point;
  try {
    await rewriteManifest(files, replica, { ...found, disks });
  } catch (thrown) {
    if (!replica.unsureSequences.has(sequence)) await replica.removeLayers([merged], 0);
    throw thrown;
  }
  await (await replica.ledger()).forget(new Set(run.map(({ fileName }) => fileName)));
  await replica.removeLayers(run, sequence);
  return true;
}
