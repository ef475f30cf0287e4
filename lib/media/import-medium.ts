/**
 * Takes a finished medium in as a VM's first recovery point. Everything is checked
 * before anything of the replica is changed; then the medium's deltas go through the
 * store as if a primary sent them, so that nothing counts before the last commit, and
 * an import that was cut short goes on where it was.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { DeltaHeader } from "../model/delta.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { inLanes } from "../model/in-lanes.js";
import type { ImportTarget, MediaOpener } from "../model/initial-media.js";
import type { RecoveryPoint, ReplicaVmStatus } from "../model/replica-endpoint.js";
import { unlockMedia } from "./media-lock.js";
import {
  type DeltaDocument,
  type ManifestDocument,
  readHeader,
  type SegmentEntry,
  segmentFile,
} from "./medium.js";
import { diskError, readText } from "./medium-files.js";
import type { MediumSegments } from "./medium-segments.js";
import { readManifest } from "./medium-writer.js";
import type { SealedPlace } from "./sealed-file.js";

export interface ImportParts {
  readonly target: ImportTarget;
  readonly segments: MediumSegments;
  readonly signal: AbortSignal;
}

export interface ImportedMedium {
  readonly vmId: string;
  readonly name: string;
  readonly point: RecoveryPoint;
}

interface OpenMedium {
  readonly directory: string;
  readonly mediaId: string;
  readonly key: Buffer;
  readonly manifest: ManifestDocument;
}

/** Files that are on their way at once. */
const LANE_COUNT = 2;

/** `directory`: the medium's folder, or the one above it when that has no other. */
export async function importMedium(
  parts: ImportParts,
  directory: string,
  opener: MediaOpener,
): Promise<ImportedMedium> {
  const medium = await openMedium(await mediumFolder(directory), opener);
  const { vm, generation } = medium.manifest;
  await requireImportable(parts, medium.manifest);
  await checkFiles(parts, medium);
  await parts.target.enable(vm, generation, parts.signal);
  const point = await takeIn(parts, medium);
  return { vmId: vm.vmId, name: vm.name, point };
}

async function mediumFolder(directory: string): Promise<string> {
  if ((await readText(join(directory, "media.json"))) !== null) return directory;
  const entries = await readdir(directory, { withFileTypes: true }).catch((thrown: unknown) => {
    throw diskError(thrown, directory);
  });
  const folders: string[] = [];
  for (const entry of entries.filter((one) => one.isDirectory())) {
    const folder = join(directory, entry.name);
    if ((await readText(join(folder, "media.json"))) !== null) folders.push(folder);
  }
  if (folders.length <= 1) return folders[0] ?? directory;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot choose a medium in ${directory}: because there are ${folders.length}.`,
    { hint: `Name one of them: ${folders.slice(0, 5).join(", ")}.` },
  );
}

async function openMedium(directory: string, opener: MediaOpener): Promise<OpenMedium> {
  const { mediaId, lock } = await readHeader(directory);
  const key = await unlockMedia(lock, mediaId, opener);
  const manifest = await readManifest({ directory, mediaId, key });
  if (manifest !== null) return { directory, mediaId, key, manifest };
  throw new TidemarkError("TRUNCATED", `Cannot import ${directory}: because it has no manifest.`, {
    hint: "Wait until the export has ended, and copy all of it.",
  });
}

/** A VM that is not known here yet may be imported: the primary meets it afterwards. */
async function requireImportable(
  { target, signal }: ImportParts,
  { vm, generation }: ManifestDocument,
): Promise<void> {
  const status = await target.status(vm.vmId, signal).catch((thrown: unknown) => {
    if (toTidemarkError(thrown).code === "NOT_FOUND") return null;
    throw thrown;
  });
  if (status === null) return;
  if (status.generation.id !== generation.id || status.generation.number !== generation.number) {
    throw new TidemarkError(
      "FENCED",
      `Cannot import ${vm.name}: because the replica is at generation ${status.generation.number} of another lineage by now.`,
      { hint: "Export the VM anew." },
    );
  }
  if (status.head !== null) throw alreadyThere(vm.name, status);
}

function alreadyThere(name: string, { pointCount }: ReplicaVmStatus): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot import ${name}: because the replica has ${pointCount} of its recovery points.`,
    { hint: "Nothing: its first copy is here." },
  );
}

/** As anyone can check them: that all files are there, as long as they were, and the same. */
async function checkFiles(parts: ImportParts, medium: OpenMedium): Promise<void> {
  const files = medium.manifest.deltas.flatMap(({ segments }, index) =>
    segments.map((entry, segmentIndex) => ({ name: segmentFile(index + 1, segmentIndex), entry })),
  );
  const queue = files.values();
  await inLanes(LANE_COUNT, parts.signal, async (signal) => {
    for (const { name, entry } of queue) {
      const path = join(medium.directory, name);
      const found = await parts.segments.sum(path, signal);
      if (found.fileBytes < entry.fileBytes) throw damaged("TRUNCATED", path, "its end is missing");
      if (found.sha256 !== entry.sha256)
        throw damaged("CORRUPT", path, "its checksum does not fit");
    }
  });
}

function damaged(code: "TRUNCATED" | "CORRUPT", path: string, why: string): TidemarkError {
  return new TidemarkError(code, `Cannot import ${path}: because ${why}.`, {
    hint: "Copy the medium again, or export the VM anew.",
  });
}

async function takeIn(parts: ImportParts, medium: OpenMedium): Promise<RecoveryPoint> {
  const { deltas } = medium.manifest;
  const { sessionId, doneCount } = await openSession(parts, medium.manifest);
  let point: RecoveryPoint | null = null;
  for (const [index, delta] of deltas.entries()) {
    if (index < doneCount) continue;
    point = await takeInDelta(parts, medium, index + 1, {
      ...delta,
      header: { ...delta.header, stagingSessionId: sessionId },
    });
    failpoint("import.commit");
  }
  if (point !== null) return point;
  throw new TidemarkError("CORRUPT", "Cannot import the medium: because it ends without a point.");
}

/** The session of an earlier try, when it holds nothing but the first of these deltas. */
async function openSession(
  { target, signal }: ImportParts,
  { vm, generation, deltas }: ManifestDocument,
): Promise<{ readonly sessionId: string; readonly doneCount: number }> {
  const done = await target.stagedDeltaIds(vm.vmId);
  const isOurs = done.every((deltaId, index) => deltas[index]?.header.deltaId === deltaId);
  const { stagingSessionId } = await target.status(vm.vmId, signal);
  if (stagingSessionId !== null && isOurs && done.length > 0) {
    return { sessionId: stagingSessionId, doneCount: done.length };
  }
  const sessionId = await target.openStaging(vm.vmId, generation, signal);
  return { sessionId, doneCount: 0 };
}

async function takeInDelta(
  parts: ImportParts,
  medium: OpenMedium,
  order: number,
  { header, digest, segments }: DeltaDocument,
): Promise<RecoveryPoint | null> {
  const { target, signal } = parts;
  const attempt = await openDelta(parts, header);
  const durable = new Set(attempt.durable);
  const missing = segments.filter(({ receipt }) => !durable.has(receipt.segmentIndex)).values();
  await inLanes(LANE_COUNT, signal, async (laneSignal) => {
    const lane = { ...parts, signal: laneSignal };
    for (const entry of missing) await putSegment(lane, medium, order, attempt.header, entry);
  });
  const { vmId, deltaId, generation } = header;
  return target.commit(
    { vmId, deltaId, attempt: attempt.header.attempt, generation, digest },
    signal,
  );
}

/** Of a try that was cut short the segments stay, under the next attempt. */
async function openDelta({ target, signal }: ImportParts, header: DeltaHeader) {
  for (let attempt = header.attempt; ; attempt += 1) {
    try {
      const announced = { ...header, attempt };
      const receipts = await target.openDelta(announced, signal);
      return { header: announced, durable: receipts.map((receipt) => receipt.segmentIndex) };
    } catch (thrown) {
      if (toTidemarkError(thrown).code !== "CONFLICT" || attempt > header.attempt + 100)
        throw thrown;
    }
  }
}

async function putSegment(
  { target, segments, signal }: ImportParts,
  { directory, mediaId, key }: OpenMedium,
  order: number,
  { vmId, deltaId, attempt }: DeltaHeader,
  { contentBytes, receipt: expected }: SegmentEntry,
): Promise<void> {
  signal.throwIfAborted();
  const { segmentIndex } = expected;
  const name = segmentFile(order, segmentIndex);
  const place: SealedPlace = { key, mediaId, name };
  const path = join(directory, name);
  const slot = await target.reserveSegment({ vmId, deltaId, attempt, segmentIndex, contentBytes });
  try {
    const receipt = await segments.read(slot, { path, place, contentBytes }, signal);
    if (receipt.sha256 !== expected.sha256)
      throw damaged("CORRUPT", path, "its content is another");
    await target.completeSegment(slot, receipt);
    failpoint("import.segment");
  } catch (thrown) {
    await target.abortSegment(slot);
    throw thrown;
  }
}
