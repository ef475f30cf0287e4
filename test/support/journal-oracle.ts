/**
 * What a recovery point must hold, told from the guest's own journal alone:
 * the newest write that any of its blocks is of ends the prefix of the journal,
 * and every block of every disk must be the one that this prefix leaves.
 */
import type { JournalEntry } from "./journaled-load.js";
import { NbdClient } from "./nbd-client.js";
import { BLOCK_BYTES, readStamp, stampBlock } from "./stamped-blocks.js";

const CHUNK_BYTES = 1 << 20;

export interface PointUnderTest {
  readonly label: string;
  readonly takenAtMs: number;
  /** Each disk's whole content, in the journal's order; the last ones may not be there. */
  readonly disks: readonly Buffer[];
}

export interface PointFinding {
  /** How many writes of the journal the point holds. */
  readonly prefixLength: number;
  /** Each a sentence; none when the point is right. */
  readonly faults: readonly string[];
}

export async function readDisk(uri: string): Promise<Buffer> {
  const client = await NbdClient.connect(uri);
  try {
    const content = Buffer.allocUnsafe(client.sizeBytes);
    for (let at = 0; at < content.length; at += CHUNK_BYTES) {
      const piece = await client.read(at, Math.min(CHUNK_BYTES, content.length - at));
      piece.copy(content, at);
    }
    return content;
  } finally {
    client.close();
  }
}

export function judgePoint(point: PointUnderTest, journal: readonly JournalEntry[]): PointFinding {
  const faults: string[] = [];
  const found = point.disks.map((disk, diskIndex) => sequencesOf(disk, diskIndex, faults));
  const prefixLength = found.reduce(
    (newest, sequences) => sequences.reduce((a, b) => Math.max(a, b), newest),
    0,
  );
  if (prefixLength > journal.length) faults.push(`it holds write ${prefixLength}, never made`);
  const isDue = ({ ackedAtMs, diskIndex }: JournalEntry) =>
    ackedAtMs < point.takenAtMs && diskIndex < point.disks.length;
  const due = journal.findLast(isDue)?.sequence ?? 0;
  if (prefixLength < due) {
    faults.push(`it ends at write ${prefixLength}, but ${due} was acknowledged before its cut`);
  }
  const expected = point.disks.map((disk) => new Uint32Array(disk.length / BLOCK_BYTES));
  for (const entry of journal.slice(0, Math.max(0, prefixLength - 1))) apply(entry, expected);
  const last = journal[prefixLength - 1];
  for (const [diskIndex, disk] of point.disks.entries()) {
    const allowed = { expected: expected[diskIndex] ?? new Uint32Array(), last };
    judgeDisk(disk, diskIndex, found[diskIndex] ?? new Uint32Array(), allowed, faults);
  }
  return { prefixLength, faults: faults.map((fault) => `Point ${point.label}: ${fault}.`) };
}

function apply(entry: JournalEntry, disks: readonly Uint32Array[]): void {
  const { diskIndex, blockIndex, blockCount, sequence } = entry;
  disks[diskIndex]?.fill(sequence, blockIndex, blockIndex + blockCount);
}

function sequencesOf(disk: Buffer, diskIndex: number, faults: string[]): Uint32Array {
  const sequences = new Uint32Array(disk.length / BLOCK_BYTES);
  for (const blockIndex of sequences.keys()) {
    const at = blockIndex * BLOCK_BYTES;
    const stamp = readStamp(disk.subarray(at, at + BLOCK_BYTES));
    if (stamp === null) faults.push(`block ${blockIndex} of disk ${diskIndex} is not whole`);
    else sequences[blockIndex] = stamp.sequence;
  }
  return sequences;
}

function judgeDisk(
  disk: Buffer,
  diskIndex: number,
  found: Uint32Array,
  { expected, last }: { readonly expected: Uint32Array; readonly last: JournalEntry | undefined },
  faults: string[],
): void {
  const content = Buffer.alloc(BLOCK_BYTES);
  for (const [blockIndex, sequence] of found.entries()) {
    const before = expected[blockIndex] ?? 0;
    const allowed = allowedSequences(before, last, diskIndex, blockIndex);
    if (!allowed.includes(sequence)) {
      const wanted = allowed.join(" or ");
      faults.push(`block ${blockIndex} of disk ${diskIndex} is of ${sequence}, not of ${wanted}`);
      continue;
    }
    stampBlock({ diskIndex, blockIndex, sequence }, content);
    const at = blockIndex * BLOCK_BYTES;
    if (content.compare(disk, at, at + BLOCK_BYTES) !== 0) {
      faults.push(`block ${blockIndex} of disk ${diskIndex} is not what write ${sequence} wrote`);
    }
  }
}

/** An interrupted last write may be there in part. */
function allowedSequences(
  before: number,
  last: JournalEntry | undefined,
  diskIndex: number,
  blockIndex: number,
): readonly number[] {
  const isOfLast =
    last !== undefined &&
    last.diskIndex === diskIndex &&
    blockIndex >= last.blockIndex &&
    blockIndex < last.blockIndex + last.blockCount;
  if (!isOfLast) return [before];
  return last.wasInterrupted ? [before, last.sequence] : [last.sequence];
}
