import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RecoveryPointBody, VmStatus } from "#lib/management/schemas.js";
import { TidemarkError } from "#lib/model/errors.js";
import { createCa } from "#lib/security/pki.js";
import { HostProcess } from "../host-process.js";
import { readDisk } from "../journal-oracle.js";
import { SeededRandom } from "../seeded-random.js";
import { BLOCK_BYTES, stampRun } from "../stamped-blocks.js";
import { until } from "../until.js";
import { Branch } from "./branch.js";
import { BranchGuest } from "./branch-guest.js";
import { KeptHost } from "./kept-host.js";
import type { Side } from "./round-plan.js";

export const VM = "guest";
const DISK_BYTES = 2 << 20;
const DISK_COUNT = 2;
export const INTERVAL_MS = 1000;
const PATIENCE_MS = 240_000;

/**
 * Two host processes and a VM that is now on one of them, now on the other, with its
 * guest and what is known of it from that guest alone.
 */
export class WanderingVm {
  readonly random: SeededRandom;
  readonly faults: string[] = [];
  readonly #directory: string;
  readonly #hosts: [KeptHost, KeptHost];
  /** By the point's id: of whom it is, where that is not the present branch. */
  readonly #branchOf = new Map<string, Branch>();
  readonly #judged = new Set<string>();
  #branch: Branch;
  #guest: BranchGuest | null = null;
  #branchCount = 0;
  judgedCount = 0;

  private constructor(directory: string, hosts: [KeptHost, KeptHost], seed: number) {
    this.#directory = directory;
    this.#hosts = hosts;
    this.random = new SeededRandom(Math.imul(seed, 0x85ebca6b));
    const blocks = DISK_BYTES / BLOCK_BYTES;
    const images = Array.from({ length: DISK_COUNT }, (_, index) => stampRun(index, 0, blocks, 0));
    this.#branch = this.newBranch(images);
  }

  /** Replicated, with its first points. */
  static async start(seed: number): Promise<WanderingVm> {
    const directory = await mkdtemp(join(tmpdir(), "tdm-rounds-"));
    const caDirectory = join(directory, "ca");
    await createCa(caDirectory);
    const newHost = async (name: string) => {
      const settings = { caDirectory, name, isReplica: true };
      return new KeptHost(name, await HostProcess.create(directory, settings));
    };
    const vm = new WanderingVm(directory, [await newHost("a"), await newHost("b")], seed);
    try {
      await vm.#begin();
      return vm;
    } catch (thrown) {
      await vm.close();
      throw thrown;
    }
  }

  get primary(): KeptHost {
    return this.#hosts[0];
  }

  get replica(): KeptHost {
    return this.#hosts[1];
  }

  host(side: Side): KeptHost {
    return side === "primary" ? this.primary : this.replica;
  }

  get branch(): Branch {
    return this.#branch;
  }

  get guest(): BranchGuest {
    if (this.#guest === null) throw new Error("the guest does not run");
    return this.#guest;
  }

  newBranch(images: readonly Buffer[]): Branch {
    this.#branchCount += 1;
    return new Branch(`branch ${this.#branchCount}`, images);
  }

  /** The VM's guest from now on, on whatever of its disks. */
  async boot(host: KeptHost, branch: Branch): Promise<BranchGuest> {
    const { disks } = await this.waitFor(`${VM} to be served by ${host.name}`, async () => {
      const status = await host.vm(VM);
      return status.disks.length > 0 && status.disks.every(({ uri }) => uri !== null) && status;
    });
    const random = new SeededRandom(1 + this.random.below(1 << 30));
    const uris = disks.map(({ uri }) => uri ?? "");
    return BranchGuest.start(branch, uris, random);
  }

  /** It goes on here, whoever had it before. */
  settleOn(branch: Branch, guest: BranchGuest): void {
    if (branch !== this.#branch) this.#judged.clear();
    this.#branch = branch;
    this.#guest = guest;
  }

  /** The primary is the replica from now on. */
  swap(): void {
    this.#hosts.reverse();
  }

  /** As until(); while a host is being started again nothing is found. */
  async waitFor<T>(what: string, found: () => Promise<T | null | false>): Promise<T> {
    let last: unknown = null;
    try {
      return await until(what, PATIENCE_MS, () =>
        found().catch((thrown: unknown) => {
          last = thrown;
          if (thrown instanceof TidemarkError && thrown.code === "INTERNAL") throw thrown;
          return null;
        }),
      );
    } catch (thrown) {
      throw new Error(`${String(thrown)}; last: ${String(last)}\n${await this.#description()}`);
    }
  }

  /** Ordered until it is so, by one who does not hear every answer. */
  order(
    what: string,
    host: KeptHost,
    call: () => Promise<unknown>,
    isSo: (status: VmStatus) => boolean,
  ): Promise<VmStatus> {
    return this.waitFor(what, async () => {
      const status = await host.vm(VM);
      if (isSo(status)) return status;
      await call();
      const after = await host.vm(VM);
      return isSo(after) && after;
    });
  }

  points(): Promise<readonly RecoveryPointBody[]> {
    return this.waitFor("the points", () => this.replica.api.call("pointList", {}, { vm: VM }));
  }

  branchOf(pointId: string): Branch {
    return this.#branchOf.get(pointId) ?? this.#branch;
  }

  /** A former primary's disks, which are a point of its own branch. */
  noteBranchOf(pointId: string, branch: Branch): void {
    this.#branchOf.set(pointId, branch);
  }

  /** Over a test failover's export, which is closed again. */
  async contentOfPoint(pointId: string): Promise<readonly Buffer[]> {
    return this.waitFor("a point's content", async () => {
      const opened = await this.replica.api.call("testFailover", { pointId }, { vm: VM });
      const uris = opened.disks.map(({ uri }) => uri);
      const content = await readAll(uris);
      await this.replica.api.call("exportClose", {}, { export: opened.exportId });
      return content;
    });
  }

  /** As whoever the host serves them to reads them. */
  async served(host: KeptHost): Promise<readonly Buffer[]> {
    return this.waitFor("the disks that are served", async () => {
      const { disks } = await host.vm(VM);
      return disks.some(({ uri }) => uri === null)
        ? null
        : readAll(disks.map(({ uri }) => uri ?? ""));
    });
  }

  /** The files that the disks are, where they are plain ones. */
  async files(host: KeptHost): Promise<readonly Buffer[]> {
    const { disks } = await this.waitFor("the disks' files", () => host.vm(VM));
    return Promise.all(disks.map(({ path }) => readFile(path ?? "")));
  }

  /** Every point at the replica that was not judged on this branch yet. */
  async judgePoints(): Promise<void> {
    for (const { pointId, sequence, takenAtMs } of await this.points()) {
      if (this.#judged.has(pointId)) continue;
      this.#judged.add(pointId);
      this.judgedCount += 1;
      const branch = this.branchOf(pointId);
      const isPresent = branch === this.#branch;
      const atLeast = isPresent ? branch.ackedBefore(takenAtMs) : branch.ackedLength;
      const content = await this.contentOfPoint(pointId);
      this.faults.push(...branch.judge(`point ${sequence}`, content, atLeast).faults);
    }
  }

  /** A test that a killed host had open is closed: it would be in the way of what follows. */
  async closeTests(host: KeptHost): Promise<void> {
    await this.waitFor("the tests to be closed", async () => {
      const { open } = await host.api.call("testFailoverList", {}, { vm: VM });
      for (const { exportId } of open) {
        await host.api.call("exportClose", {}, { export: exportId });
      }
      return true;
    });
  }

  /** Replicated by a cut that is later than this call. */
  async replicated(): Promise<void> {
    const sinceMs = Date.now();
    await this.waitFor("a cycle", async () => {
      const { relationship } = await this.primary.vm(VM);
      const isLater = (relationship?.lastCycle?.startedAtMs ?? 0) > sinceMs;
      return relationship?.state === "replicating" && isLater;
    });
  }

  same(what: string, found: readonly Buffer[], wanted: readonly Buffer[]): void {
    const isSame =
      found.length === wanted.length &&
      found.every((disk, index) => wanted[index]?.equals(disk) === true);
    if (!isSame) this.faults.push(`${what} is not what it has to be`);
  }

  async close(): Promise<void> {
    await this.#guest?.die();
    for (const host of this.#hosts) {
      await host.end();
      this.faults.push(...host.faults);
    }
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #begin(): Promise<void> {
    const paths = await Promise.all(
      this.#branch.images.map(async (image, index) => {
        const path = join(this.#directory, `disk-${index}.raw`);
        await writeFile(path, image);
        return path;
      }),
    );
    await Promise.all(this.#hosts.map((host) => host.begin()));
    await this.primary.api.call("vmEnable", {
      name: VM,
      disks: paths.map((path) => ({ path })),
      replicaUrl: this.replica.process.peerUrl,
      intervalMs: INTERVAL_MS,
    });
    this.#guest = await this.boot(this.primary, this.#branch);
    await this.replicated();
  }

  async #description(): Promise<string> {
    const each = await Promise.all(
      this.#hosts.map(async (host) => {
        const status = await host.vm(VM).catch(String);
        return `${host.name}: ${JSON.stringify(status)}\n${host.process.stderr}`;
      }),
    );
    return each.join("\n");
  }
}

function readAll(uris: readonly string[]): Promise<readonly Buffer[]> {
  return Promise.all(uris.map((uri) => readDisk(uri)));
}
