import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Checkpoint } from "#lib/index.js";
import { DeltaDecoder, NbdServer, TrackedDisk } from "#lib/index.js";
import {
  CHAIN_BLOCKS,
  CHAIN_COUNT,
  DependencyOracle,
  type Progress,
  WriteChain,
} from "./dependent-writes.js";
import { NbdClient } from "./nbd-client.js";
import { SlowDevice } from "./slow-device.js";
import { BLOCK_BYTES } from "./stamped-blocks.js";

export const TARGET = "replica";
const CONNECTIONS_PER_DISK = 4;
const PULSE_MS = 1;
const PATIENT_PULSES = 4;
const DISK_BYTES = CHAIN_COUNT * CHAIN_BLOCKS * BLOCK_BYTES;

type Applied = (diskIndex: number, offsetBytes: number) => boolean;

/** Two tracked disks over NBD, chains of dependent writes on them, and a replica of both. */
export class ChainedDisks {
  readonly disks: TrackedDisk[] = [];
  readonly images = [Buffer.alloc(DISK_BYTES), Buffer.alloc(DISK_BYTES)];
  readonly #directory: string;
  readonly #devices: SlowDevice[] = [];
  readonly #clients: NbdClient[][] = [];
  readonly #chains: WriteChain[] = [];
  readonly #oracle = new DependencyOracle();
  readonly #stopping = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #server: NbdServer | null = null;
  #turn = 0;
  #waitedPulses = 0;
  #timer: NodeJS.Timeout | null = null;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async start(): Promise<ChainedDisks> {
    const scene = new ChainedDisks(await mkdtemp(join(tmpdir(), "tidemark-chains-")));
    try {
      await scene.#open();
      return scene;
    } catch (thrown) {
      await scene.close();
      throw thrown;
    }
  }

  get writeCount(): number {
    return this.#chains.reduce((sum, { acked }) => sum + acked[0] + acked[1], 0);
  }

  /** How far each chain has been acknowledged, or sent. */
  progress(kind: "acked" | "issued"): Progress[] {
    return this.#chains.map((chain) => [...chain[kind]]);
  }

  /** Brings the delta to the images, but for records that `isApplied` says no to. */
  async apply(
    checkpoint: Checkpoint,
    imageOf: readonly number[],
    isApplied: Applied = () => true,
  ): Promise<void> {
    for await (const record of new DeltaDecoder(checkpoint.delta(TARGET))) {
      const index = imageOf[record.diskIndex] ?? -1;
      const image = this.images[index];
      if (image === undefined) throw new RangeError("a record of no disk");
      const { offsetBytes } = record;
      if (!isApplied(index, offsetBytes)) continue;
      if (record.type === "data") image.set(record.data, offsetBytes);
      else image.fill(0, offsetBytes, offsetBytes + record.lengthBytes);
    }
    await checkpoint.commit();
  }

  /** What the images show, judged. */
  judge(acked: readonly Progress[], issued: readonly Progress[]): string[] {
    return this.#oracle.judge(this.images, acked, issued);
  }

  /** The chains end, each after its write under way. */
  async quiesce(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const device of this.#devices) device.stop();
    await this.quiesce();
    for (const client of this.#clients.flat()) client.close();
    await this.#server?.close();
    for (const disk of this.disks) await disk.close();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #open(): Promise<void> {
    const server = await NbdServer.start({ socketPath: join(this.#directory, "nbd.sock") });
    this.#server = server;
    for (const diskIndex of this.images.keys()) {
      const device = new SlowDevice(DISK_BYTES);
      this.#devices.push(device);
      const path = join(this.#directory, `disk-${diskIndex}`);
      const disk = await TrackedDisk.track(device.native, { path, granularityBytes: BLOCK_BYTES });
      this.disks.push(disk);
      await disk.addTarget(TARGET, "nothing");
      server.addExport(`disk-${diskIndex}`, disk.native);
      const uri = server.uriOf(`disk-${diskIndex}`);
      const connecting = Array.from({ length: CONNECTIONS_PER_DISK }, () => NbdClient.connect(uri));
      this.#clients.push(await Promise.all(connecting));
    }
    this.#timer = setInterval(() => this.#pulse(), PULSE_MS);
    for (let index = 0; index < CHAIN_COUNT; index += 1) this.#chains.push(this.#chain(index));
    this.#running = Promise.all(this.#chains.map((chain) => chain.run(this.#stopping.signal)));
  }

  /**
   * In turns, and while a write waits at the other disk: so one is always in
   * flight. But for a checkpoint that waits for just that one.
   */
  #pulse(): void {
    const device = this.#devices[this.#turn];
    const other = this.#devices[1 - this.#turn];
    this.#waitedPulses += 1;
    if (other?.heldCount === 0 && this.#waitedPulses < PATIENT_PULSES) return;
    device?.pulse();
    this.#turn = 1 - this.#turn;
    this.#waitedPulses = 0;
  }

  #chain(index: number): WriteChain {
    const clients = this.#clients.flatMap((ofDisk) => ofDisk[index % ofDisk.length] ?? []);
    return new WriteChain(index, clients);
  }
}
