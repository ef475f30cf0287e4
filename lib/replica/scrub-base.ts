/**
 * The bases, block by block against the tables beside them. A piece is looked at
 * while no merge is under way; between two pieces there may be one.
 */
import { relative } from "node:path";
import { type ExtentList, lengthOf } from "../model/block-hashes.js";
import type { DiskGeometry } from "../model/disk.js";
import { toTidemarkError } from "../model/errors.js";
import { intersect, subtract, unionOf } from "../model/extent-list.js";
import {
  BaseTable,
  BLANK_ENTRY,
  ENTRY_BYTES,
  TABLE_HEADER_BYTES,
  UNKNOWN_ENTRY,
} from "./base-table.js";
import { runsOf } from "./device-runs.js";
import { layerExtents } from "./layer-extents.js";
import { geometryOf } from "./opened-point.js";
import type { LayerNative } from "./replica-tools.js";
import { SCRUB_PIECE_BYTES, type ScrubContext } from "./scrub-context.js";

/** Of the disk; asked at once where there is data. */
const WINDOW_BYTES = 2 ** 30;

export async function scrubBases(context: ScrubContext): Promise<void> {
  const { chain, document } = context.replica;
  for (const disk of chain.baseManifest?.disks ?? []) {
    await scrubBase(context, geometryOf(disk, document.vm.disks));
  }
}

async function scrubBase(context: ScrubContext, disk: DiskGeometry): Promise<void> {
  const { pace, signal, replica, tools } = context;
  const base = await tools.files.size(replica.paths.diskBase(disk.diskId));
  if (base === null) {
    // Before its first merge there is none.
    if (replica.chain.base.sequence > 0) reportMissing(context, disk);
    return;
  }
  const damaged: number[] = [];
  // Never a part of a block.
  const pieceBytes = Math.max(SCRUB_PIECE_BYTES, disk.granularityBytes);
  for (let from = 0; from < base.sizeBytes; from += WINDOW_BYTES) {
    const windowBytes = Math.min(WINDOW_BYTES, base.sizeBytes - from);
    const data = await dataWithin(context, disk, from, windowBytes);
    for (const at of piecesOf(data, pieceBytes)) {
      signal.throwIfAborted();
      const lengthBytes = Math.min(pieceBytes, base.sizeBytes - at);
      const judge = () => judgePiece(context, disk, at, lengthBytes);
      damaged.push(...(await replica.compacting.run(judge)));
      await pace.spend(lengthBytes, signal);
    }
  }
  const extents = unionOf(damaged);
  if (extents.length > 0) {
    report(context, disk, extents, "These blocks differ from the checksums of the merge.");
  }
}

/** Where the base or its table has anything; whole pieces, so that blocks are not cut. */
async function dataWithin(
  { tools, replica }: ScrubContext,
  disk: DiskGeometry,
  fromBytes: number,
  lengthBytes: number,
): Promise<ExtentList> {
  const { paths, chain } = replica;
  const { native } = tools;
  const data = await dataRuns(native, paths.diskBase(disk.diskId), fromBytes, lengthBytes);
  const tablePath = paths.diskChecksums(disk.diskId);
  const table = await BaseTable.open(native, tablePath, disk.diskId, chain.base, "read");
  if (table === null) return data;
  await table.close();
  const { granularityBytes } = table.header;
  const perEntry = granularityBytes / ENTRY_BYTES;
  const tableFrom = TABLE_HEADER_BYTES + fromBytes / perEntry;
  const entries = await dataRuns(native, tablePath, tableFrom, Math.ceil(lengthBytes / perEntry));
  const described = entries.map((value, at) =>
    at % 2 === 0 ? (value - TABLE_HEADER_BYTES) * perEntry : value * perEntry,
  );
  return intersect(unionOf(data, described), [fromBytes, lengthBytes]);
}

async function dataRuns(
  native: LayerNative,
  path: string,
  fromBytes: number,
  lengthBytes: number,
): Promise<number[]> {
  const device = await native.openFileDevice(path, true, false, "none");
  try {
    const runs: number[] = [];
    const endBytes = Math.min(device.sizeBytes, fromBytes + lengthBytes);
    if (endBytes <= fromBytes) return runs;
    for await (const run of runsOf(device, fromBytes, endBytes - fromBytes)) {
      if (!run.isZero) runs.push(run.offsetBytes, run.lengthBytes);
    }
    return runs;
  } finally {
    await device.close();
  }
}

/** Where the pieces of a grid begin that the extents touch. */
function* piecesOf(extents: ExtentList, pieceBytes: number): Generator<number> {
  let done = -1;
  for (let i = 0; i + 1 < extents.length; i += 2) {
    const [begin = 0, length = 0] = [extents[i], extents[i + 1]];
    const last = Math.floor((begin + length - 1) / pieceBytes);
    for (let at = Math.max(Math.floor(begin / pieceBytes), done + 1); at <= last; at += 1) {
      yield at * pieceBytes;
      done = at;
    }
  }
}

/** The extents of the piece that are damaged. */
async function judgePiece(
  context: ScrubContext,
  disk: DiskGeometry,
  fromBytes: number,
  lengthBytes: number,
): Promise<ExtentList> {
  const { tools, replica, findings } = context;
  const { paths, chain } = replica;
  const { native } = tools;
  const tablePath = paths.diskChecksums(disk.diskId);
  const table = await BaseTable.open(native, tablePath, disk.diskId, chain.base, "read");
  if (table === null) {
    const basePath = paths.diskBase(disk.diskId);
    findings.unknownBytes += lengthOf(await dataRuns(native, basePath, fromBytes, lengthBytes));
    return [];
  }
  try {
    const { granularityBytes, blank } = table.header;
    const count = Math.ceil(lengthBytes / granularityBytes);
    const entries = await table.read(Math.floor(fromBytes / granularityBytes), count);
    const basePath = paths.diskBase(disk.diskId);
    const found = await checksumsOf(native, basePath, fromBytes, count, granularityBytes);
    const zero = native.crc32c(Buffer.alloc(granularityBytes), 0);
    const known = { entries, found, zero, blank, granularityBytes };
    const judged = judgeBlocks(known, fromBytes);
    findings.unknownBytes += judged.unknownBytes;
    findings.verifiedBytes += judged.verifiedBytes;
    return subtract(judged.damaged, await beingMerged(context, disk));
  } finally {
    await table.close();
  }
}

interface KnownBlocks {
  readonly entries: Uint32Array;
  /** NaN for what could not be read. */
  readonly found: readonly number[];
  readonly zero: number;
  readonly blank: "zero" | "unknown";
  readonly granularityBytes: number;
}

function judgeBlocks(
  { entries, found, zero, blank, granularityBytes }: KnownBlocks,
  fromBytes: number,
): { damaged: ExtentList; verifiedBytes: number; unknownBytes: number } {
  const damaged: number[] = [];
  let unknownBytes = 0;
  let verifiedBytes = 0;
  for (const [at, entry] of entries.entries()) {
    const isUnknown = entry === UNKNOWN_ENTRY || (entry === BLANK_ENTRY && blank === "unknown");
    const isZero = found[at] === zero;
    // Nothing was said of it, and nothing is there.
    if (isUnknown) {
      unknownBytes += isZero ? 0 : granularityBytes;
      continue;
    }
    if (entry !== BLANK_ENTRY) verifiedBytes += granularityBytes;
    if (found[at] !== (entry === BLANK_ENTRY ? zero : entry)) {
      damaged.push(fromBytes + at * granularityBytes, granularityBytes);
    }
  }
  return { damaged, verifiedBytes, unknownBytes };
}

/** Halves what the storage refuses until the blocks are found that it cannot read. */
async function checksumsOf(
  native: LayerNative,
  path: string,
  fromBytes: number,
  count: number,
  blockBytes: number,
): Promise<readonly number[]> {
  try {
    return [...(await native.checksumFile(path, fromBytes, count * blockBytes, blockBytes))];
  } catch (thrown) {
    if (toTidemarkError(thrown).code !== "IO_ERROR") throw thrown;
    if (count === 1) return [Number.NaN];
    const half = count >> 1;
    const middle = fromBytes + half * blockBytes;
    return [
      ...(await checksumsOf(native, path, fromBytes, half, blockBytes)),
      ...(await checksumsOf(native, path, middle, count - half, blockBytes)),
    ];
  }
}

/** A merge that did not come to its end is repeated: what it has written is not judged. */
async function beingMerged(
  { tools, replica }: ScrubContext,
  disk: DiskGeometry,
): Promise<ExtentList> {
  const { chain, paths } = replica;
  const { mergingSequence } = chain.base;
  return mergingSequence === null
    ? []
    : layerExtents(tools.native, paths, disk.diskId, chain.aboveBase(mergingSequence));
}

function reportMissing(context: ScrubContext, disk: DiskGeometry): void {
  report(context, disk, [0, disk.sizeBytes], "The base is not there.");
}

function report(
  { replica, findings }: ScrubContext,
  disk: DiskGeometry,
  extents: ExtentList,
  reason: string,
): void {
  const file = relative(replica.paths.directory, replica.paths.diskBase(disk.diskId));
  const { diskId, name: diskName } = disk;
  const pointSequence = replica.chain.base.sequence;
  const place = { file, diskId, diskName, pointSequence };
  findings.damage.push({ kind: "base", ...place, extents, reason });
}
