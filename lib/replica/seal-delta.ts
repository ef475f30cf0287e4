import type { DiskGeometry } from "../model/disk.js";
import type { NativeLayerSummary } from "../tracking/layer-binding.js";
import { type LayeredDisk, SEGMENT_DOCUMENT, type StoredLayer } from "./documents.js";
import { readDocument } from "./durable-document.js";
import type { OpenDelta } from "./open-delta.js";
import type { ReplicaTools } from "./replica-tools.js";
import { layerFileName, stagedLayer, type VmPaths } from "./store-paths.js";

/**
 * Makes the delta's layers complete and moves them among the VM's layers,
 * durably. They count for nothing until a manifest or a session names them.
 *
 * May be repeated after a failure or a crash at any step: a layer is moved only
 * when it is whole, so one that is in its place is done. Its name in the
 * staging directory may come back after a power loss; nobody looks there again.
 */
export async function sealDelta(
  tools: ReplicaTools,
  paths: VmPaths,
  delta: OpenDelta,
  sequence: number,
): Promise<readonly LayeredDisk[]> {
  const blobs = await readIndexBlobs(tools, delta);
  const disks: LayeredDisk[] = [];
  for (const [diskIndex, disk] of delta.header.disks.entries()) {
    const diskBlobs = blobs.get(diskIndex);
    const layers =
      diskBlobs === undefined
        ? []
        : [await sealLayer(tools, paths, delta, { diskIndex, disk, sequence, diskBlobs })];
    disks.push({ ...disk, layers });
  }
  if (blobs.size > 0) await tools.files.syncDirectory(paths.layersDirectory);
  return disks;
}

/** The segments' parts of the index, by disk, in the order of the segments. */
async function readIndexBlobs(
  tools: ReplicaTools,
  delta: OpenDelta,
): Promise<ReadonlyMap<number, readonly Uint8Array[]>> {
  const blobs = new Map<number, Uint8Array[]>();
  for (const path of delta.segmentFiles()) {
    const { diskIndex, index } = await readDocument(tools.files, SEGMENT_DOCUMENT, path);
    const ofDisk = blobs.get(diskIndex) ?? [];
    ofDisk.push(Buffer.from(index, "base64"));
    blobs.set(diskIndex, ofDisk);
  }
  return blobs;
}

interface LayerToSeal {
  readonly diskIndex: number;
  readonly disk: DiskGeometry;
  readonly sequence: number;
  readonly diskBlobs: readonly Uint8Array[];
}

async function sealLayer(
  tools: ReplicaTools,
  paths: VmPaths,
  delta: OpenDelta,
  layer: LayerToSeal,
): Promise<StoredLayer> {
  const fileName = layerFileName(delta.openingId, layer.diskIndex);
  const target = paths.layer(fileName);
  const isInPlace = (await tools.files.size(target)) !== null;
  const summary = isInPlace
    ? await tools.native.verifyLayer(target, layer.disk.diskId, false)
    : await sealAndMove(tools, delta, layer, target);
  const { checksum, dataBytes, zeroBytes } = summary;
  const fileBytes = (await tools.files.size(target))?.sizeBytes ?? 0;
  const diskSizeBytes = layer.disk.sizeBytes;
  return { fileName, fileBytes, checksum, dataBytes, zeroBytes, diskSizeBytes };
}

async function sealAndMove(
  tools: ReplicaTools,
  delta: OpenDelta,
  layer: LayerToSeal,
  target: string,
): Promise<NativeLayerSummary> {
  const { diskId, sizeBytes, granularityBytes } = layer.disk;
  const staged = stagedLayer(delta.directory, layer.diskIndex);
  const summary = await tools.native.sealLayer(
    staged,
    {
      diskId,
      lineage: delta.header.generation.id,
      sequence: layer.sequence,
      diskSizeBytes: sizeBytes,
      granularityBytes,
    },
    [...layer.diskBlobs],
  );
  await tools.files.rename(staged, target);
  return summary;
}
