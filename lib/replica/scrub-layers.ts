import { relative } from "node:path";
import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { Damage } from "../model/verification.js";
import type { NativeLayer } from "../tracking/layer-binding.js";
import type { StoredLayer } from "./documents.js";
import { geometryOf } from "./opened-point.js";
import { SCRUB_PIECE_BYTES, type ScrubContext } from "./scrub-context.js";

interface LayerOfPoint {
  readonly layer: StoredLayer;
  readonly disk: DiskGeometry;
  readonly pointSequence: number;
}

/** Every layer of the points up to the one asked for, headers, indexes and data. */
export async function scrubLayers(context: ScrubContext): Promise<void> {
  for (const one of layersOf(context)) {
    context.signal.throwIfAborted();
    await scrubLayer(context, one).catch((thrown: unknown) => {
      context.signal.throwIfAborted();
      // A merge may have taken it meanwhile: then the base is what is verified.
      const isNeeded = context.replica.chain.layerFileNames().has(one.layer.fileName);
      if (isNeeded) report(context, one, "layer", wholeDisk(one), reasonOf(thrown));
    });
  }
}

function layersOf({ replica, upToSequence }: ScrubContext): LayerOfPoint[] {
  const { disks } = replica.document.vm;
  return replica.chain.aboveBase(upToSequence).flatMap((manifest) =>
    manifest.disks.flatMap((of) => {
      const disk = geometryOf(of, disks);
      const pointSequence = manifest.point.sequence;
      return of.layers.map((layer) => ({ layer, disk, pointSequence }));
    }),
  );
}

async function scrubLayer(context: ScrubContext, one: LayerOfPoint): Promise<void> {
  const { tools, replica } = context;
  const path = replica.paths.layer(one.layer.fileName);
  const opened = await tools.native.openLayer(path, one.disk.diskId);
  try {
    if (opened.checksum !== one.layer.checksum) {
      throw new TidemarkError("CORRUPT", "It is not the layer that its point's manifest names.");
    }
    const extents = await scanData(context, opened, one.disk.sizeBytes);
    const reason = "These blocks differ from the checksums that came with them.";
    if (extents.length > 0) report(context, one, "data", extents, reason);
  } finally {
    await opened.close();
  }
}

async function scanData(
  { pace, signal, findings }: ScrubContext,
  layer: NativeLayer,
  sizeBytes: number,
): Promise<number[]> {
  const extents: number[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const { nextBytes, readBytes, damaged } = await layer.scan(at, SCRUB_PIECE_BYTES);
    extents.push(...damaged);
    findings.verifiedBytes += readBytes;
    await pace.spend(readBytes, signal);
    at = nextBytes;
  }
  return extents;
}

function report(
  { findings, replica }: ScrubContext,
  { layer, disk, pointSequence }: LayerOfPoint,
  kind: Damage["kind"],
  extents: readonly number[],
  reason: string,
): void {
  const file = relative(replica.paths.directory, replica.paths.layer(layer.fileName));
  const { diskId, name: diskName } = disk;
  findings.damage.push({ kind, file, diskId, diskName, pointSequence, extents, reason });
}

const wholeDisk = ({ disk }: LayerOfPoint) => [0, disk.sizeBytes];

function reasonOf(thrown: unknown): string {
  return toTidemarkError(thrown).message;
}
