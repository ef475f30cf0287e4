import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RecoveryPointBody } from "#lib/management/schemas.js";
import type { CycleReport } from "#lib/model/relationship.js";
import { createCa } from "#lib/security/pki.js";
import { HostProcess, type HostSettings } from "./host-process.js";
import { type JournalEntry, JournaledLoad } from "./journaled-load.js";
import { judgePoint, type PointFinding, readDisk } from "./journal-oracle.js";
import { BLOCK_BYTES, stampRun } from "./stamped-blocks.js";
import { until } from "./until.js";

export const VM = "guest";
export const DISK_BYTES = 8 << 20;
const DISK_COUNT = 2;
const DISK_BLOCKS = DISK_BYTES / BLOCK_BYTES;
/** Only these are written after the start, so that a full copy cannot hide among the changes. */
const WRITTEN_BLOCKS = DISK_BLOCKS / 4;
export const WRITTEN_BYTES_AT_MOST = DISK_COUNT * WRITTEN_BLOCKS * BLOCK_BYTES;
const BYTES_PER_SECOND = 6 << 20;
const INTERVAL_MS = 1000;
const PATIENCE_MS = 120_000;

/** How it is not the usual: two hosts on loopback. */
export interface ReplicatedVmOptions {
  /** Before anything is made in the directory. */
  readonly prepare?: (directory: string) => Promise<void>;
  readonly settings?: (host: "primary" | "replica") => Partial<HostSettings>;
  /** Where the primary finds the replica, once that is ready. */
  readonly replicaUrl?: (replica: HostProcess) => Promise<string>;
  readonly bytesPerSecond?: number;
}

/**
 * Two host processes on loopback, and between them a VM with full disks under a
 * load. Hears every cycle that the primary reports, and holds each against the
 * guest's journal.
 */
export class ReplicatedVm {
  readonly directory: string;
  readonly primary: HostProcess;
  readonly replica: HostProcess;
  readonly reports: CycleReport[] = [];
  /** The points that the primary was told are committed. */
  readonly acknowledged = new Set<string>();
  /** Cycles that sent more than was written since the one before. */
  readonly oversized: string[] = [];
  #load: JournaledLoad | null = null;
  #watching: Promise<void> = Promise.resolve();

  private constructor(directory: string, primary: HostProcess, replica: HostProcess) {
    this.directory = directory;
    this.primary = primary;
    this.replica = replica;
  }

  /** Until the initial replication has ended. */
  static async start(seed: number, options: ReplicatedVmOptions = {}): Promise<ReplicatedVm> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-kill-"));
    await options.prepare?.(directory);
    const caDirectory = join(directory, "ca");
    await createCa(caDirectory);
    const [primary, replica] = await Promise.all(
      (["primary", "replica"] as const).map((name) =>
        HostProcess.create(directory, {
          caDirectory,
          name,
          isReplica: name === "replica",
          ...options.settings?.(name),
        }),
      ),
    );
    if (primary === undefined || replica === undefined) throw new Error("two hosts were made");
    const vm = new ReplicatedVm(directory, primary, replica);
    try {
      await vm.#begin(seed, options);
      return vm;
    } catch (thrown) {
      await vm.close();
      throw thrown;
    }
  }

  get load(): JournaledLoad {
    if (this.#load === null) throw new Error("the load has not begun");
    return this.#load;
  }

  async startPrimary(failpoint = ""): Promise<void> {
    await this.#watching;
    await this.primary.start(failpoint);
    this.#watching = this.#watch();
  }

  /** A report of a new point that came after now: replication goes on. */
  async nextPoint(): Promise<CycleReport> {
    const before = this.reports.length;
    const found = () =>
      this.reports.slice(before).find(({ pointId }) => pointId !== null) ?? this.#requireAlive();
    return this.waitFor("the next recovery point", found);
  }

  /** As until(), but what it throws says how both hosts are. */
  async waitFor<T>(
    what: string,
    found: () => T | null | false | Promise<T | null | false>,
  ): Promise<T> {
    try {
      return await until(what, PATIENCE_MS, found);
    } catch (thrown) {
      const status = await this.primary.api.call("vmStatus", {}, { vm: VM }).catch(String);
      throw new Error(
        `${String(thrown)}\n${JSON.stringify(status)}\nprimary: ${this.primary.stderr}\nreplica: ${this.replica.stderr}`,
      );
    }
  }

  points(): Promise<readonly RecoveryPointBody[]> {
    return this.replica.api.call("pointList", {}, { vm: VM });
  }

  /** Reads the whole point over its export, and holds it against the journal. */
  async judge(
    point: RecoveryPointBody,
    journal: readonly JournalEntry[] = this.load.journal,
  ): Promise<PointFinding> {
    const opened = await this.replica.api.call(
      "testFailover",
      { pointId: point.pointId },
      { vm: VM },
    );
    try {
      const disks: Buffer[] = [];
      for (const { uri, isPlaceholder } of opened.disks) {
        if (!isPlaceholder) disks.push(await readDisk(uri));
      }
      const { takenAtMs, sequence } = point;
      return judgePoint({ label: String(sequence), takenAtMs, disks }, journal);
    } finally {
      await this.replica.api.call("exportClose", {}, { export: opened.exportId });
    }
  }

  /** What is wrong with the VM's points, as far as they are not among those that were judged. */
  async faults(judged: Set<string>): Promise<readonly string[]> {
    this.load.pause();
    try {
      return await this.#judgeAll(judged);
    } finally {
      this.load.resume();
    }
  }

  async close(): Promise<void> {
    await this.#load?.stop();
    await this.primary.kill();
    await this.replica.kill();
    await this.#watching;
    await rm(this.directory, { recursive: true, force: true });
  }

  async #begin(seed: number, options: ReplicatedVmOptions): Promise<void> {
    const paths = await this.#makeDisks();
    await this.replica.start();
    await this.startPrimary();
    const { disks } = await this.primary.api.call("vmEnable", {
      name: VM,
      disks: paths.map((path) => ({ path })),
      replicaUrl: (await options.replicaUrl?.(this.replica)) ?? this.replica.peerUrl,
      intervalMs: INTERVAL_MS,
    });
    this.#load = new JournaledLoad({
      uris: disks.map(({ uri }) => uri ?? ""),
      writtenBlocks: WRITTEN_BLOCKS,
      bytesPerSecond: options.bytesPerSecond ?? BYTES_PER_SECOND,
      seed,
    });
    this.#load.start();
    await this.nextPoint();
    await this.nextPoint();
  }

  async #judgeAll(judged: Set<string>): Promise<readonly string[]> {
    const faults: string[] = [];
    const points = await this.points();
    for (const pointId of this.acknowledged) {
      if (!points.some((point) => point.pointId === pointId)) faults.push(`${pointId} is gone`);
    }
    for (const point of points) {
      if (judged.has(point.pointId)) continue;
      judged.add(point.pointId);
      faults.push(...(await this.judge(point)).faults.slice(0, 5));
    }
    return faults;
  }

  async #makeDisks(): Promise<string[]> {
    const paths: string[] = [];
    for (let diskIndex = 0; diskIndex < DISK_COUNT; diskIndex += 1) {
      const path = join(this.directory, `disk-${diskIndex}.raw`);
      await writeFile(path, stampRun(diskIndex, 0, DISK_BLOCKS, 0));
      paths.push(path);
    }
    return paths;
  }

  #requireAlive(): null {
    const { primary, replica } = this;
    if (primary.isRunning && replica.isRunning) return null;
    throw new Error(`a host has died: ${primary.stderr}${replica.stderr}`);
  }

  async #watch(): Promise<void> {
    try {
      for await (const event of this.primary.api.events()) {
        if (event.type === "cycle") this.#take(event.report);
      }
    } catch {
      // Its process was killed.
    }
  }

  #take(report: CycleReport): void {
    const previous = this.reports.at(-1);
    this.reports.push(report);
    if (report.pointId !== null) this.acknowledged.add(report.pointId);
    if (previous === undefined || report.kind === "initial") return;
    const mostBytes = this.#writtenBytesSince(previous.startedAtMs);
    if (report.changedBytes <= mostBytes && report.changedBytes <= WRITTEN_BYTES_AT_MOST) return;
    this.oversized.push(
      `the cycle after ${previous.pointId ?? "none"} took ${report.changedBytes} bytes, but ${mostBytes} were written since`,
    );
  }

  /** In distinct blocks, by writes that were not acknowledged before. */
  #writtenBytesSince(timeMs: number): number {
    const blocks = new Set<number>();
    for (let index = this.load.journal.length - 1; index >= 0; index -= 1) {
      const entry = this.load.journal[index];
      if (entry === undefined || entry.ackedAtMs < timeMs) break;
      const first = entry.diskIndex * DISK_BLOCKS + entry.blockIndex;
      for (let block = first; block < first + entry.blockCount; block += 1) blocks.add(block);
    }
    return blocks.size * BLOCK_BYTES;
  }
}
