import { join } from "node:path";
import { TidemarkError } from "../model/errors.js";
import { sameGeneration } from "../model/lineage.js";
import { DELTA_DOCUMENT, VM_DOCUMENT, type VmDocument } from "./documents.js";
import { readDocument, TEMPORARY_SUFFIX } from "./durable-document.js";
import { loadChain } from "./load-chain.js";
import { OpenDelta } from "./open-delta.js";
import type { PointChain } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import { StagingSession } from "./staging-session.js";
import type { StoreFiles } from "./store-files.js";
import { DELTA_HEADER, layerFileName, sequenceOf, type VmPaths } from "./store-paths.js";
import { VmReplica } from "./vm-replica.js";

interface Staging {
  session: StagingSession | null;
  open: OpenDelta | null;
  nextOrder: number;
}

/** Opens what is on disk of a VM, whatever state a crash left it in. */
export async function loadVm(tools: ReplicaTools, paths: VmPaths, vmId: string) {
  const { files } = tools;
  const document = await readDocument(files, VM_DOCUMENT, paths.vmFile);
  if (document.vm.vmId !== vmId) {
    throw new TidemarkError(
      "FOREIGN",
      `Cannot use ${paths.vmFile}: because it belongs to VM ${document.vm.vmId}.`,
    );
  }
  const chain = await loadChain(files, paths, vmId);
  // What a damaged chain has lost may still be wanted: nothing is removed then.
  const staging: Staging =
    chain.damage === null
      ? await loadStaging(files, paths, document, chain)
      : { session: null, open: null, nextOrder: 1 };
  if (chain.damage === null) await sweep(files, paths, chain, staging);
  return new VmReplica(tools, paths, { document, chain, ...staging });
}

/** The latest session and the latest delta, where they still fit; the others are removed. */
async function loadStaging(
  files: StoreFiles,
  paths: VmPaths,
  document: VmDocument,
  chain: PointChain,
): Promise<Staging> {
  const sessions: StagingSession[] = [];
  const deltas: OpenDelta[] = [];
  for (const name of await files.list(paths.stagingDirectory)) {
    const directory = join(paths.stagingDirectory, name);
    if (name.startsWith("session-")) {
      const session = await whole(() => StagingSession.load(files, directory));
      if (session !== null) sessions.push(session);
    } else if (name.startsWith("delta-")) {
      const delta = await whole(() => loadDelta(files, directory));
      if (delta !== null) deltas.push(delta);
    }
  }
  const session = latest(sessions, (one) => one.document.order);
  const delta = latest(deltas, (one) => one.order);
  const orders = [session?.document.order ?? 0, delta?.order ?? 0];
  const fits = session !== null && (await sessionFits(files, paths, document, chain, session));
  const staging: Staging = {
    session: fits ? session : null,
    open: null,
    nextOrder: Math.max(...orders) + 1,
  };
  if (delta !== null && deltaFits(document, chain, staging.session, delta)) {
    staging.open = delta;
    await resumeSealing(files, paths, delta);
  }
  return staging;
}

async function loadDelta(files: StoreFiles, directory: string): Promise<OpenDelta> {
  const path = join(directory, DELTA_HEADER);
  const document = await readDocument(files, DELTA_DOCUMENT, path);
  const delta = new OpenDelta(document, directory);
  await delta.loadSegments(files);
  return delta;
}

async function sessionFits(
  files: StoreFiles,
  paths: VmPaths,
  document: VmDocument,
  chain: PointChain,
  session: StagingSession,
): Promise<boolean> {
  const headId = chain.head()?.point.pointId ?? null;
  if (session.document.vmId !== document.vm.vmId) return false;
  if (!session.fits(headId, document.generation)) return false;
  for (const layer of session.layers()) {
    const found = await files.size(paths.layer(layer.fileName));
    if (found?.sizeBytes !== layer.fileBytes) return false;
  }
  return true;
}

function deltaFits(
  document: VmDocument,
  chain: PointChain,
  session: StagingSession | null,
  delta: OpenDelta,
): boolean {
  const { header } = delta;
  const headId = chain.head()?.point.pointId ?? null;
  if (header.vmId !== document.vm.vmId || header.parentPointId !== headId) return false;
  if (!sameGeneration(header.generation, document.generation)) return false;
  if (header.stagingSessionId === null) return true;
  // A staging delta that its session lists already was committed before the crash.
  return header.stagingSessionId === session?.sessionId && session.find(header.deltaId) === null;
}

async function resumeSealing(files: StoreFiles, paths: VmPaths, delta: OpenDelta): Promise<void> {
  for (const diskIndex of delta.header.disks.keys()) {
    const moved = await files.size(paths.layer(layerFileName(delta.openingId, diskIndex)));
    if (moved !== null) delta.resumeSealing();
  }
}

/** Removes what nothing refers to: only names that this store gives are touched. */
async function sweep(
  files: StoreFiles,
  paths: VmPaths,
  chain: PointChain,
  staging: Staging,
): Promise<void> {
  await sweepStaging(files, paths, staging);
  await sweepPoints(files, paths, chain);
  const needed = new Set(chain.layerFileNames());
  for (const layer of staging.session?.layers() ?? []) needed.add(layer.fileName);
  for (const diskIndex of staging.open?.header.disks.keys() ?? []) {
    needed.add(layerFileName(staging.open?.openingId ?? "", diskIndex));
  }
  for (const name of await files.list(paths.layersDirectory)) {
    if (/^[0-9a-f-]{36}-[0-9]+\.layer$/.test(name) && !needed.has(name)) {
      await files.remove(paths.layer(name));
    }
  }
}

async function sweepStaging(files: StoreFiles, paths: VmPaths, staging: Staging): Promise<void> {
  const needed = [staging.session?.directory, staging.open?.directory];
  for (const name of await files.list(paths.stagingDirectory)) {
    const directory = join(paths.stagingDirectory, name);
    const isOurs = /^(session|delta)-[0-9a-f-]{36}$/.test(name);
    if (isOurs && !needed.includes(directory)) await files.removeTree(directory);
  }
}

/** Half-written manifests, and those that a merge or another's taking over did not come to remove. */
async function sweepPoints(files: StoreFiles, paths: VmPaths, chain: PointChain): Promise<void> {
  for (const name of await files.list(paths.pointsDirectory)) {
    const sequence = sequenceOf(name);
    const isOld = sequence !== null && chain.at(sequence) === null;
    if (isOld || name.endsWith(TEMPORARY_SUFFIX)) {
      await files.remove(join(paths.pointsDirectory, name));
    }
  }
}

function latest<T>(all: readonly T[], orderOf: (one: T) => number): T | null {
  return all.reduce<T | null>(
    (best, one) => (best === null || orderOf(one) > orderOf(best) ? one : best),
    null,
  );
}

/** Null for what a crash left incomplete; trouble with the storage is not that. */
async function whole<T>(load: () => Promise<T>): Promise<T | null> {
  try {
    return await load();
  } catch (thrown) {
    const isIncomplete =
      thrown instanceof TidemarkError &&
      ["NOT_FOUND", "CORRUPT", "VERSION_UNKNOWN", "FOREIGN"].includes(thrown.code);
    if (isIncomplete) return null;
    throw thrown;
  }
}
