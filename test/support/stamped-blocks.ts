/**
 * Self-describing blocks: each says of which disk, block and write it is, and
 * carries a checksum of all of that and of its body. So a block that is read
 * anywhere can be judged alone, and its content can be made again from the
 * three numbers.
 */
import { crc32 } from "node:zlib";
import { SeededRandom } from "./seeded-random.js";

export const BLOCK_BYTES = 4096;
const MAGIC = 0x4b4c4254; // "TBLK"
const HEADER_BYTES = 20;
const POOL_BYTES = 1 << 20;
const POOL = makePool();

export interface Stamp {
  readonly diskIndex: number;
  readonly blockIndex: number;
  /** 0: of the initial image. */
  readonly sequence: number;
}

/** Writes the block's content at `at` of `into`. */
export function stampBlock(stamp: Stamp, into: Buffer, at = 0): void {
  const { diskIndex, blockIndex, sequence } = stamp;
  const mixed = Math.imul(sequence + 1, 0x9e3779b1) ^ Math.imul(blockIndex + 1, 0x85ebca6b);
  const from = ((mixed ^ diskIndex) >>> 0) % (POOL_BYTES - BLOCK_BYTES);
  POOL.copy(into, at, from, from + BLOCK_BYTES);
  into.writeUInt32LE(MAGIC, at);
  into.writeUInt32LE(diskIndex, at + 4);
  into.writeUInt32LE(blockIndex, at + 8);
  into.writeUInt32LE(sequence, at + 12);
  into.writeUInt32LE(checksumOf(into, at), at + 16);
}

/** Null when the block is not whole: torn, mixed of several writes, or foreign. */
export function readStamp(block: Buffer): Stamp | null {
  if (block.readUInt32LE(0) !== MAGIC) return null;
  if (block.readUInt32LE(16) !== checksumOf(block, 0)) return null;
  return {
    diskIndex: block.readUInt32LE(4),
    blockIndex: block.readUInt32LE(8),
    sequence: block.readUInt32LE(12),
  };
}

/** Blocks [firstBlock, firstBlock + count) of one write. */
export function stampRun(
  diskIndex: number,
  firstBlock: number,
  blockCount: number,
  sequence: number,
): Buffer {
  const run = Buffer.allocUnsafe(blockCount * BLOCK_BYTES);
  for (let index = 0; index < blockCount; index += 1) {
    stampBlock({ diskIndex, blockIndex: firstBlock + index, sequence }, run, index * BLOCK_BYTES);
  }
  return run;
}

function checksumOf(bytes: Buffer, at: number): number {
  const ofHeader = crc32(bytes.subarray(at, at + 16));
  return crc32(bytes.subarray(at + HEADER_BYTES, at + BLOCK_BYTES), ofHeader) >>> 0;
}

/** About half of it compresses. */
function makePool(): Buffer {
  const random = new SeededRandom(0x7d11);
  const pool = Buffer.alloc(POOL_BYTES);
  for (let at = 0; at < POOL_BYTES; at += 4) {
    pool.writeUInt32LE(at % 1024 < 512 ? random.below(2 ** 32) : at >>> 10, at);
  }
  return pool;
}
