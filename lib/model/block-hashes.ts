/**
 * Asking for block hashes, and comparing them: how two sides find out which
 * blocks differ without sending them.
 */
import { createHash } from "node:crypto";
import type { Generation } from "./disk.js";
import { TidemarkError } from "./errors.js";

/** SHA-256. */
export const HASH_BYTES = 32;

/** What one question may cost the side that answers it. */
export const MAX_HASHED_BYTES = 64 * 1024 * 1024;
export const MAX_HASH_COUNT = 1 << 14;
export const MAX_HASH_EXTENTS = 1 << 12;

/** First look: a difference is looked at again in blocks of the bitmap. */
const COARSE_BLOCK_BYTES = 64 * 1024;

/** [offset, length, offset, length, ...] in bytes, ascending, not overlapping. */
export type ExtentList = readonly number[];

/** The hashes of a disk's blocks at a recovery point, which must be the head. */
export interface BlockHashRequest {
  readonly vmId: string;
  readonly generation: Generation;
  readonly pointId: string;
  readonly diskIndex: number;
  /** Says which disk it is whatever the order; hosts of the version before do not send it. */
  readonly diskId?: string | undefined;
  /** Each extent is cut into blocks of this size from its begin; its last one may be shorter. */
  readonly blockBytes: number;
  readonly extents: ExtentList;
}

/** The digests of the extents' blocks, one after another. */
export type HashBlocks = (extents: ExtentList, blockBytes: number) => Promise<Uint8Array>;

/** Of what is not there or cannot be read; no content has it, and it equals nothing. */
const NO_HASH = new Uint8Array(HASH_BYTES);

interface Comparison {
  readonly equal: ExtentList;
  readonly different: ExtentList;
}

function hashCountOf(extents: ExtentList, blockBytes: number): number {
  let count = 0;
  for (let index = 1; index < extents.length; index += 2) {
    count += Math.ceil((extents[index] ?? 0) / blockBytes);
  }
  return count;
}

export function lengthOf(extents: ExtentList): number {
  let length = 0;
  for (let index = 1; index < extents.length; index += 2) length += extents[index] ?? 0;
  return length;
}

/** INVALID_ARGUMENT for what no honest peer asks. */
export function checkHashRequest({ extents, blockBytes, diskIndex }: BlockHashRequest): void {
  const numbers = [blockBytes, diskIndex, ...extents];
  const areSizes = numbers.every((value) => Number.isSafeInteger(value) && value >= 0);
  const isBounded =
    blockBytes > 0 &&
    blockBytes <= MAX_HASHED_BYTES &&
    extents.length % 2 === 0 &&
    extents.length <= 2 * MAX_HASH_EXTENTS &&
    lengthOf(extents) <= MAX_HASHED_BYTES &&
    hashCountOf(extents, blockBytes) <= MAX_HASH_COUNT;
  if (areSizes && isBounded) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot hash blocks: because at most ${MAX_HASHED_BYTES} bytes and ${MAX_HASH_COUNT} blocks are hashed at once.`,
  );
}

/** For disks in memory. */
export function hashContent(
  content: Uint8Array,
  extents: ExtentList,
  blockBytes: number,
): Uint8Array {
  const hashes: Buffer[] = [];
  eachBlock(extents, blockBytes, (offset, length) => {
    const block = new Uint8Array(length);
    block.set(content.subarray(offset, offset + length));
    hashes.push(createHash("sha256").update(block).digest());
  });
  return Buffer.concat(hashes);
}

/**
 * Blocks that reach past the point's end get a hash that nothing has: what an earlier,
 * larger disk held there may still be in the replica's layers, so the area travels.
 */
export function blankPastEnd(
  hashes: Uint8Array,
  { extents, blockBytes }: Pick<BlockHashRequest, "extents" | "blockBytes">,
  sizeBytes: number,
): Uint8Array {
  let at = 0;
  eachBlock(extents, blockBytes, (offset, length) => {
    if (offset + length > sizeBytes) hashes.fill(0, at, at + HASH_BYTES);
    at += HASH_BYTES;
  });
  return hashes;
}

/** Of a disk that the point does not have. */
export function hashesOfNothing({ extents, blockBytes }: BlockHashRequest): Uint8Array {
  return new Uint8Array(hashCountOf(extents, blockBytes) * HASH_BYTES);
}

/** Compares coarse blocks first, and what differs of them in the bitmap's own. */
export async function compareBlocks(
  extents: ExtentList,
  granularityBytes: number,
  ours: HashBlocks,
  theirs: HashBlocks,
): Promise<Comparison> {
  // No question may be that large: what is suspect travels.
  if (granularityBytes > MAX_HASHED_BYTES) return { equal: [], different: extents };
  const coarseBytes = Math.max(granularityBytes, COARSE_BLOCK_BYTES);
  const first = await compareOnce(extents, coarseBytes, ours, theirs);
  if (first.different.length === 0 || coarseBytes === granularityBytes) return first;
  const second = await compareOnce(first.different, granularityBytes, ours, theirs);
  return { equal: [...first.equal, ...second.equal], different: second.different };
}

async function compareOnce(
  extents: ExtentList,
  blockBytes: number,
  ours: HashBlocks,
  theirs: HashBlocks,
): Promise<Comparison> {
  const [own, other] = [await ours(extents, blockBytes), await theirs(extents, blockBytes)];
  const hashBytes = hashCountOf(extents, blockBytes) * HASH_BYTES;
  if (own.length !== hashBytes || other.length !== hashBytes) {
    throw new TidemarkError("CORRUPT", "Cannot compare: because hashes are missing.");
  }
  const equal: number[] = [];
  const different: number[] = [];
  let at = 0;
  eachBlock(extents, blockBytes, (offset, length) => {
    const hash = own.subarray(at, at + HASH_BYTES);
    const isSame = Buffer.compare(hash, other.subarray(at, at + HASH_BYTES)) === 0;
    const isHash = Buffer.compare(hash, NO_HASH) !== 0;
    append(isSame && isHash ? equal : different, offset, length);
    at += HASH_BYTES;
  });
  return { equal, different };
}

function eachBlock(
  extents: ExtentList,
  blockBytes: number,
  visit: (offset: number, length: number) => void,
): void {
  for (let index = 0; index + 1 < extents.length; index += 2) {
    const [begin = 0, extentBytes = 0] = [extents[index], extents[index + 1]];
    for (let done = 0; done < extentBytes; done += blockBytes) {
      visit(begin + done, Math.min(blockBytes, extentBytes - done));
    }
  }
}

/** Joins neighbours. */
function append(extents: number[], offset: number, length: number): void {
  const last = extents.length - 1;
  if (last > 0 && (extents[last - 1] ?? 0) + (extents[last] ?? 0) === offset) {
    extents[last] = (extents[last] ?? 0) + length;
  } else {
    extents.push(offset, length);
  }
}
