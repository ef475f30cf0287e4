import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient } from "./nbd-client.js";
import type { SampleDisk } from "./sample-disk.js";

export const BLOCK_BYTES = 4096;
const MAX_RUN_BLOCKS = 64;
const STAMP_MAGIC = 0x4b52414d; // "MARK"
const POOL_BYTES = 8 << 20;

/** One write: `blockCount` blocks of the disk's load file from position `loadIndex` on. */
export interface JournalEntry {
  readonly sequence: number;
  readonly diskIndex: number;
  readonly blockIndex: number;
  readonly blockCount: number;
  ackedAtMs: number;
}

/**
 * A steady load on the VM's disks: each write is issued only after the one
 * before was acknowledged, whichever disk it goes to. So what a disk pair holds
 * at any instant is exactly a prefix of the journal, and every block says which
 * write it is of.
 */
export class WriteLoad {
  readonly journal: JournalEntry[] = [];
  writtenBytes = 0;
  readonly #disks: readonly SampleDisk[];
  readonly #content: LoadContent;
  readonly #clients: NbdClient[] = [];
  #state = 0x2545f491;

  private constructor(disks: readonly SampleDisk[], content: LoadContent) {
    this.#disks = disks;
    this.#content = content;
  }

  static async connect(disks: readonly SampleDisk[], uris: readonly string[]): Promise<WriteLoad> {
    const load = new WriteLoad(disks, new LoadContent());
    for (const uri of uris) load.#clients.push(await NbdClient.connect(uri));
    return load;
  }

  get content(): LoadContent {
    return this.#content;
  }

  /** Until the signal aborts, at about `bytesPerSecond`. */
  async run(bytesPerSecond: number, signal: AbortSignal): Promise<void> {
    const startedAtMs = performance.now();
    const startedAtBytes = this.writtenBytes;
    while (!signal.aborted) {
      await this.#writeOne();
      const dueMs = ((this.writtenBytes - startedAtBytes) / bytesPerSecond) * 1000;
      const aheadMs = dueMs - (performance.now() - startedAtMs);
      if (aheadMs > 5) await sleep(aheadMs);
    }
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  async #writeOne(): Promise<void> {
    const sequence = this.journal.length + 1;
    const diskIndex = this.#random(this.#disks.length);
    const disk = this.#disks[diskIndex];
    const client = this.#clients[diskIndex];
    if (disk === undefined || client === undefined) throw new RangeError("no such disk");
    const { blockIndex, blockCount } = this.#pickRun(disk.loadBlocks);
    const entry: JournalEntry = {
      sequence,
      diskIndex,
      blockIndex,
      blockCount,
      ackedAtMs: Number.POSITIVE_INFINITY,
    };
    this.journal.push(entry);
    await client.write(blockIndex * BLOCK_BYTES, this.#content.of(entry));
    if (sequence % 256 === 0) await client.flush();
    entry.ackedAtMs = Date.now();
    this.writtenBytes += blockCount * BLOCK_BYTES;
  }

  /** A run of neighbouring blocks of the load file; small ones are frequent. */
  #pickRun(loadBlocks: Uint32Array): { blockIndex: number; blockCount: number } {
    const at = this.#random(loadBlocks.length);
    const wanted = 1 + this.#random(this.#random(2) === 0 ? 4 : MAX_RUN_BLOCKS);
    const blockIndex = loadBlocks[at] ?? 0;
    let blockCount = 1;
    while (blockCount < wanted && loadBlocks[at + blockCount] === blockIndex + blockCount)
      blockCount += 1;
    return { blockIndex, blockCount };
  }

  /** xorshift: the same run of writes each time. */
  #random(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % below;
  }
}

/** What a journal entry wrote, made again from the entry alone. About half of it compresses. */
export class LoadContent {
  readonly #pool: Buffer;

  constructor() {
    this.#pool = randomBytes(POOL_BYTES);
    const words = Buffer.from("the tide leaves its mark on every block that it has touched; ");
    for (let at = 0; at < POOL_BYTES; at += BLOCK_BYTES) {
      this.#pool.fill(words, at, at + (BLOCK_BYTES * 5) / 8);
    }
  }

  of(entry: JournalEntry): Buffer {
    const lengthBytes = entry.blockCount * BLOCK_BYTES;
    const from = ((entry.sequence * 7919) % ((POOL_BYTES - lengthBytes) / 512)) * 512;
    const data = Buffer.from(this.#pool.subarray(from, from + lengthBytes));
    for (let index = 0; index < entry.blockCount; index += 1) {
      writeStamp(data, index * BLOCK_BYTES, entry, entry.blockIndex + index);
    }
    return data;
  }
}

function writeStamp(data: Buffer, at: number, entry: JournalEntry, blockIndex: number): void {
  data.writeUInt32LE(STAMP_MAGIC, at);
  data.writeUInt32LE(entry.diskIndex, at + 4);
  data.writeUInt32LE(blockIndex, at + 8);
  data.writeUInt32LE(entry.sequence, at + 12);
}

/** Which write the block is of; 0 when it was never written by the load. */
export function stampedSequence(block: Buffer, diskIndex: number, blockIndex: number): number {
  const isOurs =
    block.readUInt32LE(0) === STAMP_MAGIC &&
    block.readUInt32LE(4) === diskIndex &&
    block.readUInt32LE(8) === blockIndex;
  return isOurs ? block.readUInt32LE(12) : 0;
}
