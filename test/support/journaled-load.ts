import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient } from "./nbd-client.js";
import { SeededRandom } from "./seeded-random.js";
import { BLOCK_BYTES, stampRun } from "./stamped-blocks.js";

const MAX_RUN_BLOCKS = 16;
const RECONNECT_MS = 25;
const CATCH_UP_MS = 200;
const FLUSH_EVERY = 64;

export interface JournalEntry {
  readonly sequence: number;
  readonly diskIndex: number;
  readonly blockIndex: number;
  readonly blockCount: number;
  /** Infinite until it is acknowledged. */
  ackedAtMs: number;
  /** The connection was lost while it was under way: for a while it may be there in part. */
  wasInterrupted: boolean;
}

export interface JournaledLoadOptions {
  readonly uris: readonly string[];
  /** The first blocks of each disk, which alone are written. */
  readonly writtenBlocks: number;
  readonly bytesPerSecond: number;
  readonly seed: number;
}

/**
 * A guest that writes one run of blocks after the other, each only when the one
 * before was acknowledged, and that does what a guest's NBD client does when the
 * connection is lost: connect again, and send what was not answered again. So
 * the disks hold a prefix of the journal at any instant, but for the last write
 * of it, which may be there in part after it was interrupted.
 */
export class JournaledLoad {
  readonly journal: JournalEntry[] = [];
  readonly #options: JournaledLoadOptions;
  readonly #random: SeededRandom;
  readonly #clients: (NbdClient | null)[];
  /** By the disk's number; null for one that is not written. */
  readonly #uris: (string | null)[];
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #pause: { readonly ended: Promise<void>; readonly end: () => void } | null = null;
  reconnectCount = 0;

  constructor(options: JournaledLoadOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#clients = options.uris.map(() => null);
    this.#uris = [...options.uris];
  }

  start(): void {
    this.#running = this.#run();
  }

  /** No new write until resume(). */
  pause(): void {
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#pause ??= { ended, end };
  }

  resume(): void {
    this.#pause?.end();
    this.#pause = null;
  }

  /** From the next write on. */
  writeTo(diskIndex: number, uri: string): void {
    this.#uris[diskIndex] = uri;
    this.#clients[diskIndex] = null;
  }

  /** No write of the disk is under way when it resolves, and no connection is open. */
  async leaveAlone(diskIndex: number): Promise<void> {
    this.#uris[diskIndex] = null;
    const { length } = this.journal;
    while (this.journal.length <= length + 1) await sleep(RECONNECT_MS);
    this.#clients[diskIndex]?.close();
    this.#clients[diskIndex] = null;
  }

  /** Ends after the write under way is acknowledged, or at once when nobody serves. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.resume();
    await this.#running;
    for (const client of this.#clients) client?.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let dueMs = performance.now();
    while (!signal.aborted) {
      await this.#pause?.ended;
      const entry = this.#newEntry();
      await this.#writeUntilAcked(entry, signal);
      const tookMs = ((entry.blockCount * BLOCK_BYTES) / this.#options.bytesPerSecond) * 1000;
      // What a pause or an outage has cost is made up for a moment only.
      dueMs = Math.max(dueMs + tookMs, performance.now() - CATCH_UP_MS);
      const aheadMs = dueMs - performance.now();
      if (aheadMs > 2) await sleep(aheadMs);
    }
  }

  /** Half of the writes go to a small hot area. */
  #newEntry(): JournalEntry {
    const { writtenBlocks } = this.#options;
    const random = this.#random;
    const written = [...this.#uris.keys()].filter((index) => this.#uris[index] !== null);
    const blockCount = 1 + random.below(MAX_RUN_BLOCKS);
    const areaBlocks = random.below(2) === 0 ? writtenBlocks / 8 : writtenBlocks;
    const entry = {
      sequence: this.journal.length + 1,
      diskIndex: written[random.below(written.length)] ?? 0,
      blockIndex: random.below(areaBlocks - blockCount + 1),
      blockCount,
      ackedAtMs: Number.POSITIVE_INFINITY,
      wasInterrupted: false,
    };
    this.journal.push(entry);
    return entry;
  }

  async #writeUntilAcked(entry: JournalEntry, signal: AbortSignal): Promise<void> {
    const { diskIndex, blockIndex, blockCount, sequence } = entry;
    const data = stampRun(diskIndex, blockIndex, blockCount, sequence);
    for (;;) {
      try {
        const client = await this.#client(diskIndex);
        await client.write(blockIndex * BLOCK_BYTES, data);
        entry.ackedAtMs = Date.now();
        if (sequence % FLUSH_EVERY === 0) await client.flush();
        return;
      } catch {
        entry.wasInterrupted ||= entry.ackedAtMs === Number.POSITIVE_INFINITY;
        this.#clients[diskIndex]?.destroy();
        this.#clients[diskIndex] = null;
        if (entry.ackedAtMs < Number.POSITIVE_INFINITY || signal.aborted) return;
        await sleep(RECONNECT_MS);
      }
    }
  }

  async #client(diskIndex: number): Promise<NbdClient> {
    const known = this.#clients[diskIndex];
    if (known !== null && known !== undefined) return known;
    const client = await NbdClient.connect(this.#uris[diskIndex] ?? "");
    this.#clients[diskIndex] = client;
    this.reconnectCount += 1;
    return client;
  }
}
