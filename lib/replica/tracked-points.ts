/** The disks of a VM as its newest recovery point has them, with bitmaps of what differs. */
import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { NativeLayeredDevice } from "../tracking/binding.js";
import { ExchangeableDisk } from "../tracking/exchangeable-disk.js";
import { EXTENDED_DOCUMENT, type ExtendedDocument, type PointManifest } from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import { openPointDisk } from "./open-point-disk.js";
import { type OpenedPoint, openedPoint, type PointDisk } from "./opened-point.js";
import type { ReplicaTools } from "./replica-tools.js";
import { settleManifests } from "./rewrite-manifest.js";
import type { VmReplica } from "./vm-replica.js";
import { layersBetween, writtenBetween } from "./written-between.js";

/** What a bitmap is when nothing of it can be known; an intact one of another disk stays. */
const REPLACED_CODES: ReadonlySet<string> = new Set(["CORRUPT", "TRUNCATED", "VERSION_UNKNOWN"]);

export interface TrackedPoints {
  readonly point: OpenedPoint;
  readonly generationId: string;
  readonly disks: readonly ExchangeableDisk[];
}

/** From one point to a newer one. */
interface Advance {
  readonly from: OpenedPoint | null;
  readonly to: OpenedPoint;
  readonly generationId: string;
  readonly between: readonly PointManifest[];
}

/**
 * Opens the bitmaps at the point to which they were marked, and goes on to the newest. Of a
 * disk whose bitmap is gone, or was marked in another generation, nothing is known: its
 * bitmap is a new one, without targets. NOT_FOUND while there is no point.
 */
export async function openTrackedPoints(
  tools: ReplicaTools,
  replica: VmReplica,
): Promise<TrackedPoints> {
  const advance = await replica.lock.run(() => beginOpening(tools, replica));
  const { generationId } = advance;
  const disks: ExchangeableDisk[] = [];
  try {
    for (const disk of replicatedDisks(advance.to)) {
      disks.push(await openDisk(tools, replica, advance, disk));
    }
    await noteMarked(tools, replica, advance.to, generationId);
    await removeBitmaps(
      tools,
      replica,
      (diskId) => !disks.some((one) => one.tracked.diskId === diskId),
    );
    return { point: advance.to, generationId, disks };
  } catch (thrown) {
    for (const disk of disks) await disk.close();
    advance.to.release();
    throw toTidemarkError(thrown);
  } finally {
    advance.from?.release();
  }
}

/**
 * Those of the newest point. "other": the VM has other disks by now, or another generation,
 * and is to be opened anew.
 */
export async function advanceTrackedPoints(
  tools: ReplicaTools,
  replica: VmReplica,
  at: TrackedPoints,
): Promise<TrackedPoints | "other"> {
  const advance = await replica.lock.run(() => beginAdvance(tools, replica, at));
  if (advance === "other") return advance;
  if (advance === null) return at;
  const { point: from, disks, generationId } = at;
  const devices: NativeLayeredDevice[] = [];
  try {
    for (const disk of replicatedDisks(advance.to)) {
      devices.push(await openPointDisk(tools.native, disk));
    }
    for (const disk of disks) await markBetween(tools, replica, disk, advance.between);
    await noteMarked(tools, replica, advance.to, generationId);
  } catch (thrown) {
    for (const device of devices) await device.close();
    advance.to.release();
    throw toTidemarkError(thrown);
  }
  // Marked durably, and only then to be read.
  for (const disk of disks) {
    const device = devices.shift();
    if (device !== undefined) await disk.exchange(device);
  }
  from.release();
  return { point: advance.to, generationId, disks };
}

export function replicatedDisks({ disks }: OpenedPoint): readonly PointDisk[] {
  return disks.filter(({ isPlaceholder }) => !isPlaceholder);
}

/** Of the same size, too. */
function haveSameDisks(
  { disks }: OpenedPoint,
  { disks: replicated, excludedDisks = [] }: Pick<PointManifest, "disks" | "excludedDisks">,
): boolean {
  const known = disks.map(({ geometry, isPlaceholder }) =>
    [geometry.diskId, geometry.sizeBytes, isPlaceholder].join(" "),
  );
  const present = [
    ...replicated.map(({ diskId, sizeBytes }) => [diskId, sizeBytes, false].join(" ")),
    ...excludedDisks.map(({ diskId, sizeBytes }) => [diskId, sizeBytes, true].join(" ")),
  ];
  return known.length === present.length && known.every((disk) => present.includes(disk));
}

async function beginOpening(tools: ReplicaTools, replica: VmReplica): Promise<Advance> {
  replica.refuseIfDamaged();
  const { chain, document, paths } = replica;
  const head = chain.head();
  if (document.isPromotedHere) throw promotedHere(document.vm.name);
  if (head === null) throw withoutPoint(document.vm.name);
  await settleManifests(tools.files, replica);
  const marked = await readMarked(tools, replica);
  const isKnown = marked !== null && marked.generationId === document.generation.id;
  const former = isKnown ? chain.find(marked.pointId) : null;
  if (former === null) await tools.files.removeTree(paths.extendedDirectory);
  await tools.files.makeDirectory(paths.extendedDirectory);
  const to = await openedPoint(replica, head.point.pointId, "passing");
  const generationId = document.generation.id;
  if (former === null) return { from: null, to, generationId, between: [] };
  const from = await openedPoint(replica, former.point.pointId, "passing");
  const between = layersBetween(chain, from.point.sequence, to.point.sequence);
  return { from, to, generationId, between };
}

/** Null: it is at the newest. */
async function beginAdvance(
  tools: ReplicaTools,
  replica: VmReplica,
  { point: from, generationId }: TrackedPoints,
): Promise<Advance | "other" | null> {
  replica.refuseIfDamaged();
  const { chain, document } = replica;
  const head = chain.head();
  if (document.isPromotedHere || document.generation.id !== generationId) return "other";
  if (head === null || head.point.pointId === from.point.pointId) return null;
  if (!haveSameDisks(from, head)) return "other";
  await settleManifests(tools.files, replica);
  const to = await openedPoint(replica, head.point.pointId, "passing");
  const between = layersBetween(chain, from.point.sequence, to.point.sequence);
  return { from, to, generationId, between };
}

/** At the newest point, whatever it was before. */
async function openDisk(
  tools: ReplicaTools,
  replica: VmReplica,
  { from, between }: Advance,
  disk: PointDisk,
): Promise<ExchangeableDisk> {
  const { diskId, sizeBytes } = disk.geometry;
  const before = from?.disks.find(
    ({ geometry, isPlaceholder }) =>
      geometry.diskId === diskId && geometry.sizeBytes === sizeBytes && !isPlaceholder,
  );
  const opened = before === undefined ? null : await reopenDisk(tools, replica, before);
  if (opened === null) {
    await removeBitmaps(tools, replica, (known) => known === diskId);
    return trackDisk(tools, replica, disk);
  }
  try {
    await markBetween(tools, replica, opened, between);
    await opened.exchange(await openPointDisk(tools.native, disk));
    return opened;
  } catch (thrown) {
    await opened.close();
    throw thrown;
  }
}

/** Null for a bitmap that cannot be used. */
async function reopenDisk(
  tools: ReplicaTools,
  replica: VmReplica,
  disk: PointDisk,
): Promise<ExchangeableDisk | null> {
  try {
    return await trackDisk(tools, replica, disk);
  } catch (thrown) {
    if (REPLACED_CODES.has(toTidemarkError(thrown).code)) return null;
    throw thrown;
  }
}

async function trackDisk(
  { native }: ReplicaTools,
  { paths }: VmReplica,
  disk: PointDisk,
): Promise<ExchangeableDisk> {
  const { diskId, granularityBytes } = disk.geometry;
  const bitmapPath = paths.extendedBitmap(diskId);
  const options = { path: bitmapPath, bitmapPath, diskId, granularityBytes };
  return ExchangeableDisk.open(await openPointDisk(native, disk), options);
}

/** Layers that cannot be read tell nothing: then all of the disk is compared. */
async function markBetween(
  { native }: ReplicaTools,
  { paths }: VmReplica,
  disk: ExchangeableDisk,
  between: readonly PointManifest[],
): Promise<void> {
  const { diskId, sizeBytes } = disk.tracked;
  const written = await writtenBetween(native, paths, { diskId, sizeBytes }, between).catch(
    () => null,
  );
  if (written === null) await disk.suspect("lost writes");
  else await disk.mark(written);
}

async function readMarked(
  { files }: ReplicaTools,
  { paths, document }: VmReplica,
): Promise<ExtendedDocument | null> {
  const path = join(paths.extendedDirectory, MARKED);
  if ((await files.size(path)) === null) return null;
  const marked = await readDocument(files, EXTENDED_DOCUMENT, path).catch(() => null);
  return marked?.vmId === document.vm.vmId ? marked : null;
}

async function noteMarked(
  { files }: ReplicaTools,
  { paths, document }: VmReplica,
  { point: { pointId } }: OpenedPoint,
  generationId: string,
): Promise<void> {
  const body = { vmId: document.vm.vmId, generationId, pointId };
  await writeDocument(files, EXTENDED_DOCUMENT, join(paths.extendedDirectory, MARKED), body);
}

/** With what is kept beside them. */
async function removeBitmaps(
  { files }: ReplicaTools,
  { paths }: VmReplica,
  isOf: (diskId: string) => boolean,
): Promise<void> {
  for (const name of await files.list(paths.extendedDirectory)) {
    const [diskId] = /^[0-9a-f-]{36}(?=[.]tidemark)/.exec(name) ?? [];
    if (diskId !== undefined && isOf(diskId)) {
      await files.remove(join(paths.extendedDirectory, name));
    }
  }
}

const MARKED = "marked.json";

function withoutPoint(vmName: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot replicate ${vmName} on from here: because its replica has no recovery point yet.`,
    { retryable: true, hint: "It begins by itself when the first copy has arrived." },
  );
}

function promotedHere(vmName: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot replicate ${vmName} on from here: because it was failed over to this host and is not served yet.`,
    { retryable: true, hint: "The service's log says what keeps it." },
  );
}
