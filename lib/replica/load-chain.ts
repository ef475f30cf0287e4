import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import {
  BASE_DOCUMENT,
  type BaseDocument,
  POINT_MANIFEST,
  type PointManifest,
  type StoredLayer,
} from "./documents.js";
import { readDocument } from "./durable-document.js";
import { placeOf, PointChain } from "./point-chain.js";
import type { StoreFiles } from "./store-files.js";
import { sequenceOf, type VmPaths } from "./store-paths.js";

/**
 * Reads a VM's recovery points in order. What does not fit ends the chain there
 * and is kept as its damage: the points before it stay usable.
 */
export async function loadChain(
  files: StoreFiles,
  paths: VmPaths,
  vmId: string,
): Promise<PointChain> {
  const chain = new PointChain(await readBase(files, paths, vmId));
  try {
    for (const entry of await readManifests(files, paths, vmId, chain.base.sequence)) {
      if (entry instanceof TidemarkError) throw entry;
      await refuseUnlessLayersWhole(files, paths, entry, chain.base.sequence);
      chain.append(entry);
    }
    refuseUnfinishedBase(chain);
  } catch (thrown) {
    chain.markDamaged(toTidemarkError(thrown));
  }
  return chain;
}

/**
 * In order, from the base's own on, with an error in the place of one that cannot be used.
 * Without what a later one stands for: a crash kept that from being removed.
 */
async function readManifests(
  files: StoreFiles,
  paths: VmPaths,
  vmId: string,
  baseSequence: number,
): Promise<readonly (PointManifest | TidemarkError)[]> {
  const found: (PointManifest | TidemarkError)[] = [];
  let before = Number.MAX_SAFE_INTEGER;
  const names = await files.list(paths.pointsDirectory);
  for (const sequence of names.map(sequenceOf).reverse()) {
    if (sequence === null || sequence < baseSequence || sequence >= before) continue;
    const entry = await readManifest(files, paths, vmId, sequence).catch(toTidemarkError);
    if (!(entry instanceof TidemarkError)) before = placeOf(entry).sequence;
    found.unshift(entry);
  }
  return found;
}

async function readBase(files: StoreFiles, paths: VmPaths, vmId: string): Promise<BaseDocument> {
  if ((await files.size(paths.baseFile)) === null) {
    return { vmId, pointId: null, sequence: 0, mergingSequence: null };
  }
  const base = await readDocument(files, BASE_DOCUMENT, paths.baseFile);
  refuseForeign(base.vmId, vmId, paths.baseFile);
  return base;
}

async function readManifest(
  files: StoreFiles,
  paths: VmPaths,
  vmId: string,
  sequence: number,
): Promise<PointManifest> {
  const path = paths.point(sequence);
  const manifest = await readDocument(files, POINT_MANIFEST, path);
  refuseForeign(manifest.vmId, vmId, path);
  if (manifest.point.sequence !== sequence) {
    throw new TidemarkError(
      "CORRUPT",
      `Cannot use ${path}: because it is the manifest of point ${manifest.point.sequence}.`,
    );
  }
  return manifest;
}

async function refuseUnlessLayersWhole(
  files: StoreFiles,
  paths: VmPaths,
  { point, disks }: PointManifest,
  baseSequence: number,
): Promise<void> {
  if (point.sequence <= baseSequence) return;
  for (const layer of disks.flatMap((disk) => disk.layers)) {
    await refuseUnlessWhole(files, paths, point.sequence, layer);
  }
}

/** Only its presence and length: the native side checks the rest when it opens it. */
async function refuseUnlessWhole(
  files: StoreFiles,
  paths: VmPaths,
  sequence: number,
  layer: StoredLayer,
): Promise<void> {
  const path = join(paths.layersDirectory, layer.fileName);
  const found = await files.size(path);
  if (found?.sizeBytes === layer.fileBytes) return;
  const code = found === null ? "NOT_FOUND" : "TRUNCATED";
  const reason =
    found === null ? "is missing" : `has ${found.sizeBytes} of ${layer.fileBytes} bytes`;
  throw new TidemarkError(
    code,
    `Cannot use recovery point ${sequence}: because its layer ${path} ${reason}.`,
    { hint: "Check the storage; the points before it can be exported." },
  );
}

/** A base half-way to a point that is not there any more holds no point at all. */
function refuseUnfinishedBase(chain: PointChain): void {
  const { mergingSequence } = chain.base;
  const last = chain.head()?.point.sequence ?? 0;
  if (mergingSequence === null || last >= mergingSequence) return;
  throw new TidemarkError(
    "CORRUPT",
    `Cannot use the base: because it was being merged up to point ${mergingSequence}, which is not there.`,
  );
}

function refuseForeign(foundVmId: string, vmId: string, path: string): void {
  if (foundVmId === vmId) return;
  throw new TidemarkError("FOREIGN", `Cannot use ${path}: because it belongs to VM ${foundVmId}.`);
}
