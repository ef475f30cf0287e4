import { constants } from "node:fs";
import { copyFile, type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { PointExportBody } from "../../management/schemas.js";
import { TidemarkError } from "../../model/errors.js";
import { NbdClient } from "./nbd-client.js";
import { type SampleDisk, tool } from "./sample-disk.js";
import { BLOCK_BYTES, stampedSequence, type WriteLoad } from "./write-load.js";

const CHUNK_BYTES = 1 << 20;

export interface PointVerdict {
  /** How many of the journal's writes the point holds. */
  readonly prefixLength: number;
  readonly comparedBytes: number;
}

/**
 * Proves a recovery point: reads its disks over NBD, checks the file systems,
 * finds out up to which write of the journal they go, replays the journal up to
 * there on copies of the initial images, and compares every byte. Nothing here
 * goes through captures or layers.
 */
export async function verifyPoint(
  opened: PointExportBody,
  disks: readonly SampleDisk[],
  load: WriteLoad,
  directory: string,
): Promise<PointVerdict> {
  const restored = disks.map((_disk, index) =>
    join(directory, `restored-${opened.point.sequence}-${index}.raw`),
  );
  try {
    for (const [index, path] of restored.entries()) {
      await download(opened.disks[index]?.uri ?? "", path);
      await tool("e2fsck", ["-fn", path]);
    }
    const prefixLength = await findPrefix(restored, disks);
    requireCut(prefixLength, opened, load);
    let comparedBytes = 0;
    for (const [index, path] of restored.entries()) {
      comparedBytes += await compareDisk(path, index, disks, load, prefixLength, opened, directory);
    }
    return { prefixLength, comparedBytes };
  } finally {
    for (const path of restored) await rm(path, { force: true });
  }
}

async function download(uri: string, path: string): Promise<void> {
  const client = await NbdClient.connect(uri);
  const file = await open(path, "w");
  try {
    for (let at = 0; at < client.sizeBytes; at += CHUNK_BYTES) {
      await file.write(await client.read(at, Math.min(CHUNK_BYTES, client.sizeBytes - at)));
    }
  } finally {
    client.close();
    await file.close();
  }
}

/** The newest write that any block is of. */
async function findPrefix(
  restored: readonly string[],
  disks: readonly SampleDisk[],
): Promise<number> {
  let newest = 0;
  for (const [diskIndex, path] of restored.entries()) {
    const file = await open(path, "r");
    const block = Buffer.alloc(BLOCK_BYTES);
    for (const blockIndex of disks[diskIndex]?.loadBlocks ?? []) {
      await file.read(block, 0, BLOCK_BYTES, blockIndex * BLOCK_BYTES);
      newest = Math.max(newest, stampedSequence(block, diskIndex, blockIndex));
    }
    await file.close();
  }
  return newest;
}

/** The point may not be older than it says: what was acknowledged before its time must be in it. */
function requireCut(prefixLength: number, { point }: PointExportBody, load: WriteLoad): void {
  const due = load.journal.findLast((entry) => entry.ackedAtMs < point.takenAtMs)?.sequence ?? 0;
  if (prefixLength >= due && prefixLength <= load.journal.length) return;
  throw new TidemarkError(
    "CORRUPT",
    `Recovery point ${point.sequence} goes up to write ${prefixLength}, but write ${due} was acknowledged before its cut.`,
  );
}

async function compareDisk(
  path: string,
  diskIndex: number,
  disks: readonly SampleDisk[],
  load: WriteLoad,
  prefixLength: number,
  { point }: PointExportBody,
  directory: string,
): Promise<number> {
  const disk = disks[diskIndex];
  if (disk === undefined) throw new RangeError("no such disk");
  const oraclePath = join(directory, `oracle-${diskIndex}.raw`);
  await copyFile(disk.initialPath, oraclePath, constants.COPYFILE_FICLONE);
  const oracle = await open(oraclePath, "r+");
  const actual = await open(path, "r");
  try {
    for (const entry of load.journal.slice(0, prefixLength)) {
      if (entry.diskIndex !== diskIndex) continue;
      await oracle.write(load.content.of(entry), 0, undefined, entry.blockIndex * BLOCK_BYTES);
    }
    const blockIndex = await firstDifference(oracle, actual, disk.sizeBytes);
    if (blockIndex === null) return disk.sizeBytes;
    throw new TidemarkError(
      "CORRUPT",
      `Block ${blockIndex} of disk ${diskIndex} at recovery point ${point.sequence} differs from what the primary held.`,
    );
  } finally {
    await oracle.close();
    await actual.close();
    await rm(oraclePath, { force: true });
  }
}

async function firstDifference(
  a: FileHandle,
  b: FileHandle,
  sizeBytes: number,
): Promise<number | null> {
  const [left, right] = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)];
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
    const lengthBytes = Math.min(CHUNK_BYTES, sizeBytes - at);
    await a.read(left, 0, lengthBytes, at);
    const { bytesRead } = await b.read(right, 0, lengthBytes, at);
    if (bytesRead < lengthBytes) return Math.floor((at + bytesRead) / BLOCK_BYTES);
    if (left.compare(right, 0, lengthBytes, 0, lengthBytes) === 0) continue;
    for (let inside = 0; ; inside += 1) {
      if (left[inside] !== right[inside]) return Math.floor((at + inside) / BLOCK_BYTES);
    }
  }
  return null;
}
