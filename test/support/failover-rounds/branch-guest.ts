import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient } from "../nbd-client.js";
import type { SeededRandom } from "../seeded-random.js";
import { BLOCK_BYTES, stampRun } from "../stamped-blocks.js";
import type { Branch, Write } from "./branch.js";

const MAX_RUN_BLOCKS = 6;
const BETWEEN_WRITES_MS = 4;
const RECONNECT_MS = 25;
const FLUSH_EVERY = 32;

let lastSequence = 0;

/**
 * A guest on one host: one write after the other, each only when the one before is
 * acknowledged, and the same again after a lost connection. So its disks are a prefix
 * of its branch at any instant.
 */
export class BranchGuest {
  readonly branch: Branch;
  readonly #uris: readonly string[];
  readonly #random: SeededRandom;
  readonly #clients: (NbdClient | null)[];
  readonly #ending = new AbortController();
  /** Gives up even what is not acknowledged. */
  readonly #cut = new AbortController();
  #running: Promise<void>;
  #isPaused = false;
  #isIdle = false;

  private constructor(branch: Branch, uris: readonly string[], random: SeededRandom) {
    this.branch = branch;
    this.#uris = uris;
    this.#random = random;
    this.#clients = uris.map(() => null);
    this.#running = this.#run();
  }

  static start(branch: Branch, uris: readonly string[], random: SeededRandom): BranchGuest {
    return new BranchGuest(branch, uris, random);
  }

  /** No write is under way when it resolves. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    while (!this.#isIdle) await sleep(BETWEEN_WRITES_MS);
  }

  resume(): void {
    this.#isPaused = false;
  }

  /** Ends when all that it wrote is acknowledged, with no connection open. */
  async shutDown(): Promise<void> {
    this.#ending.abort();
    await this.#running;
    for (const client of this.#clients) client?.close();
  }

  /** Its host is gone: what was not acknowledged never is. */
  async die(): Promise<void> {
    this.#cut.abort();
    this.#ending.abort();
    for (const client of this.#clients) client?.destroy();
    await this.#running;
  }

  async #run(): Promise<void> {
    const last = this.branch.writes.at(-1);
    // As a journal that is played back.
    if (last?.ackedAtMs === Number.POSITIVE_INFINITY) await this.#writeUntilAcked(last);
    while (!this.#ending.signal.aborted) {
      if (!this.#isPaused) await this.#writeUntilAcked(this.#newWrite());
      this.#isIdle = this.#isPaused;
      await sleep(BETWEEN_WRITES_MS);
    }
  }

  #newWrite(): Write {
    const random = this.#random;
    const diskIndex = random.below(this.#uris.length);
    const blockCount = 1 + random.below(MAX_RUN_BLOCKS);
    const diskBlocks = (this.branch.images[diskIndex]?.length ?? 0) / BLOCK_BYTES;
    lastSequence += 1;
    const write = {
      sequence: lastSequence,
      diskIndex,
      blockIndex: random.below(diskBlocks - blockCount + 1),
      blockCount,
      ackedAtMs: Number.POSITIVE_INFINITY,
      wasInterrupted: false,
    };
    this.branch.writes.push(write);
    return write;
  }

  async #writeUntilAcked(write: Write): Promise<void> {
    const { diskIndex, blockIndex, blockCount, sequence } = write;
    const data = stampRun(diskIndex, blockIndex, blockCount, sequence);
    while (!this.#cut.signal.aborted) {
      try {
        const client = await this.#client(diskIndex);
        await client.write(blockIndex * BLOCK_BYTES, data);
        write.ackedAtMs = Date.now();
        if (sequence % FLUSH_EVERY === 0) await client.flush();
        return;
      } catch {
        this.#clients[diskIndex]?.destroy();
        this.#clients[diskIndex] = null;
        if (write.ackedAtMs < Number.POSITIVE_INFINITY) return;
        write.wasInterrupted = true;
        await sleep(RECONNECT_MS);
      }
    }
  }

  async #client(diskIndex: number): Promise<NbdClient> {
    const known = this.#clients[diskIndex];
    if (known !== null && known !== undefined) return known;
    const client = await NbdClient.connect(this.#uris[diskIndex] ?? "");
    if (this.#cut.signal.aborted) client.destroy();
    this.#clients[diskIndex] = client;
    return client;
  }
}
