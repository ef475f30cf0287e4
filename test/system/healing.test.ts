/**
 * T12, T16: a disk that was changed while nobody tracked it, with real hosts. The
 * whole disk is compared with the replica by hash, what differs travels and nothing
 * else, and the newest recovery point equals the disk.
 */
import { createHash } from "node:crypto";
import {
  copyFile,
  mkdtemp,
  open,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { VmStatus } from "#lib/management/schemas.js";
import type { CycleReport } from "#lib/model/relationship.js";
import { createCa } from "#lib/security/pki.js";
import { binding } from "#lib/tracking/binding.js";
import { CountingProxy } from "../support/counting-proxy.js";
import { HostProcess } from "../support/host-process.js";
import { NbdClient } from "../support/nbd-client.js";
import { readDisk } from "../support/journal-oracle.js";
import { SeededRandom } from "../support/seeded-random.js";
import { until } from "../support/until.js";

const VM = "guest";
const DISK_BYTES = 48 << 20;
const BLOCK_BYTES = 4096;
const PATIENCE_MS = 60_000;
/** Hashes of the disk in coarse blocks, requests, handshakes and idle cycles. */
const TALK_BYTES = 400_000;

t.setTimeout(300_000);

class Scene {
  readonly diskPath: string;
  readonly #directory: string;
  readonly #random = new SeededRandom(7);
  readonly reports: CycleReport[] = [];
  proxy: CountingProxy;
  primary: HostProcess;
  readonly replica: HostProcess;
  #watching: Promise<void> = Promise.resolve();

  private constructor(
    directory: string,
    proxy: CountingProxy,
    primary: HostProcess,
    replica: HostProcess,
  ) {
    this.#directory = directory;
    this.diskPath = join(directory, "disk.raw");
    this.proxy = proxy;
    this.primary = primary;
    this.replica = replica;
  }

  static async start(diskBytes: number, filledBytes: number): Promise<Scene> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-heal-"));
    const caDirectory = join(directory, "ca");
    await createCa(caDirectory);
    const host = (name: string, isReplica: boolean) =>
      HostProcess.create(directory, { caDirectory, name, isReplica });
    const [replica, primary] = [await host("replica", true), await host("primary", false)];
    const proxy = await CountingProxy.start(replica.peerPort);
    const scene = new Scene(directory, proxy, primary, replica);
    await writeFile(scene.diskPath, scene.noise(filledBytes));
    await truncate(scene.diskPath, diskBytes);
    await replica.start();
    await scene.startPrimary();
    await primary.api.call("vmEnable", {
      name: VM,
      disks: [{ path: scene.diskPath }],
      replicaUrl: `https://127.0.0.1:${proxy.port}`,
      intervalMs: 1000,
    });
    await scene.nextReport(({ kind }) => kind === "initial");
    return scene;
  }

  /** Nothing that compresses. */
  noise(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(this.#random.below(2 ** 32), at);
    return bytes;
  }

  async startPrimary(): Promise<void> {
    await this.#watching;
    await this.primary.start();
    this.#watching = this.#watch();
  }

  async stopPrimary(): Promise<void> {
    await this.primary.stop();
    await this.#watching;
    this.reports.length = 0;
    this.proxy.bytes = 0;
  }

  nextReport(fits: (report: CycleReport) => boolean): Promise<CycleReport> {
    const before = this.reports.length;
    return until(
      "a cycle's report",
      PATIENCE_MS,
      () => this.reports.slice(before).find(fits) ?? null,
    );
  }

  /** As another program does: straight into the image. */
  async overwrite(blocks: readonly number[]): Promise<void> {
    const image = await open(this.diskPath, "r+");
    for (const block of blocks) {
      await image.write(this.noise(BLOCK_BYTES), 0, BLOCK_BYTES, block * BLOCK_BYTES);
    }
    await image.close();
  }

  status(): Promise<VmStatus> {
    return this.primary.api.call("vmStatus", {}, { vm: VM });
  }

  async requireEqual(t: Test): Promise<void> {
    const points = await this.replica.api.call("pointList", {}, { vm: VM });
    const newest = points.reduce((a, b) => (a.sequence > b.sequence ? a : b));
    const opened = await this.replica.api.call(
      "testFailover",
      { pointId: newest.pointId },
      { vm: VM },
    );
    const [disk] = opened.disks;
    const there = await readDisk(disk?.uri ?? "");
    await this.replica.api.call("exportClose", {}, { export: opened.exportId });
    t.equal(digest(there), digest(await readFile(this.diskPath)), "the newest point is the disk");
  }

  async close(): Promise<void> {
    await this.primary.kill();
    await this.replica.kill();
    await this.#watching;
    await this.proxy.close();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #watch(): Promise<void> {
    try {
      for await (const event of this.primary.api.events()) {
        if (event.type === "cycle") this.reports.push(event.report);
      }
    } catch {
      // Its process has ended.
    }
  }
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

const scene = await Scene.start(DISK_BYTES, DISK_BYTES);
t.teardown(() => scene.close());

/** What every suspicion ends in. */
async function requireHealed(t: Test, cause: RegExp, differingBlocks: number): Promise<void> {
  const report = await until("the healing", PATIENCE_MS, async () => {
    const { relationship } = await scene.status();
    if (relationship?.suspectBytes !== 0 || relationship.lastHealing === null) return null;
    return scene.reports.find(({ healing }) => healing !== null) ?? null;
  });
  t.match(report.healing?.causes.join(), cause);
  t.equal(report.healing?.comparedBytes, DISK_BYTES);
  t.equal(report.healing?.differingBytes, differingBlocks * BLOCK_BYTES, "exactly what differs");
  t.equal(report.changedBytes, differingBlocks * BLOCK_BYTES, "and only that travels");
  t.ok(
    scene.proxy.bytes < 2 * differingBlocks * BLOCK_BYTES + TALK_BYTES,
    `${scene.proxy.bytes} bytes on the wire`,
  );
  await scene.requireEqual(t);
}

void t.test("a disk that nobody touched is not compared", async (t) => {
  await scene.stopPrimary();
  await scene.startPrimary();
  await scene.nextReport(() => true);
  const { relationship } = await scene.status();
  t.equal(relationship?.lastHealing, null);
  t.ok(scene.proxy.bytes < TALK_BYTES);
});

void t.test(
  "T16: what another program wrote in between is found and sent, and nothing else",
  async (t) => {
    await scene.stopPrimary();
    await scene.overwrite([0, 1, 2, 777, 5000, 5001, 12_287]);
    await scene.startPrimary();
    await requireHealed(t, /modified while the filter was away/, 7);
    t.same((await scene.status()).relationship?.suspicionCauses, []);
  },
);

void t.test(
  "T16: an image that was put back from a copy, its times and all, is found out",
  async (t) => {
    await scene.stopPrimary();
    const { atime, mtime } = await stat(scene.diskPath);
    await copyFile(scene.diskPath, `${scene.diskPath}.copy`);
    await scene.overwrite([]);
    await rename(`${scene.diskPath}.copy`, scene.diskPath);
    await scene.overwrite([4242]);
    await utimes(scene.diskPath, atime, mtime);
    await scene.startPrimary();
    await requireHealed(t, /replaced/, 1);
  },
);

void t.test(
  "T16: an image that was replaced after the service was killed is found out",
  async (t) => {
    await scene.primary.kill();
    await scene.stopPrimary();
    await copyFile(scene.diskPath, `${scene.diskPath}.copy`);
    await rename(`${scene.diskPath}.copy`, scene.diskPath);
    await scene.overwrite([9, 10]);
    await scene.startPrimary();
    await requireHealed(t, /^replaced$/, 2);
  },
);

void t.test(
  "T13: what another program writes while the disk is served is found, compared and sent",
  async (t) => {
    await scene.stopPrimary();
    await scene.startPrimary();
    await scene.nextReport(() => true);
    await scene.overwrite([17, 8000]);
    await requireHealed(t, /^written past the filter$/, 2);
    const healedCount = scene.reports.filter(({ healing }) => healing !== null).length;
    await scene.nextReport(() => true);
    await scene.nextReport(() => true);
    t.equal(scene.reports.filter(({ healing }) => healing !== null).length, healedCount, "once");
  },
);

void t.test("T12: a disk whose bitmap is gone is compared, not copied", async (t) => {
  await scene.stopPrimary();
  await rm(`${scene.diskPath}.tidemark`);
  await scene.overwrite([100, 11_000]);
  await scene.startPrimary();
  await requireHealed(t, /^bitmap lost$/, 2);
});

void t.test(
  "T14: a bitmap of another version is set aside, and the disk is compared",
  async (t) => {
    await scene.stopPrimary();
    const earlier = new URL("../fixtures/formats/bitmap-v1/clean.bitmap", import.meta.url);
    await copyFile(earlier, `${scene.diskPath}.tidemark`);
    await scene.overwrite([3]);
    await scene.startPrimary();
    await requireHealed(t, /^bitmap lost$/, 1);
  },
);

void t.test(
  "a healing that is killed goes on where it was, and ends in a point that is the disk",
  async (t) => {
    await scene.stopPrimary();
    await scene.overwrite([1, 6000, 12_000]);
    await scene.primary.start("compared:3");
    await until("the host to die", PATIENCE_MS, () => !scene.primary.isRunning);
    scene.reports.length = 0;
    await scene.startPrimary();
    await scene.nextReport(({ healing }) => healing !== null);
    const report = scene.reports.find(({ healing }) => healing !== null);
    t.ok((report?.healing?.comparedBytes ?? DISK_BYTES) < DISK_BYTES, "not from its begin");
    await scene.nextReport(() => true);
    await scene.requireEqual(t);
  },
);

/** The bitmap's header as a kernel of another boot left it, and its checksum. */
async function forgetBoot(bitmapPath: string): Promise<void> {
  const file = await open(bitmapPath, "r+");
  const header = Buffer.alloc(512);
  await file.read(header, 0, 512, 0);
  header.fill(0xb0, 88, 104);
  header.writeUInt32LE(binding.crc32c(header.subarray(0, 508), 0), 508);
  await file.write(header, 0, 512, 0);
  await file.close();
}

void t.test(
  "T1 T3: after a power loss the marked regions are compared, and no others",
  async (t) => {
    const region = 64 << 20;
    const vm = await Scene.start(3 * region, 1 << 20);
    t.teardown(() => vm.close());
    // Once closed and opened, the log of a new bitmap is exact.
    await vm.stopPrimary();
    await vm.startPrimary();
    await vm.nextReport(() => true);
    const { disks } = await vm.status();
    const client = await NbdClient.connect(disks[0]?.uri ?? "");
    await client.write(region + 5 * BLOCK_BYTES, vm.noise(BLOCK_BYTES));
    await vm.primary.kill();
    client.close();
    await vm.stopPrimary();
    await forgetBoot(`${vm.diskPath}.tidemark`);
    // What the disk's cache took with it, and its mark.
    await vm.overwrite([region / BLOCK_BYTES + 9]);
    await vm.startPrimary();
    const { healing } = await until("the healing", PATIENCE_MS, async () => {
      if ((await vm.status()).relationship?.suspectBytes !== 0) return null;
      return vm.reports.find((report) => report.healing !== null) ?? null;
    });
    t.same(healing?.causes, ["power loss"]);
    t.equal(healing?.comparedBytes, region);
    t.ok((healing?.differingBytes ?? 0) <= 2 * BLOCK_BYTES, `${healing?.differingBytes} differ`);
    t.ok(vm.proxy.bytes < 4 * BLOCK_BYTES + TALK_BYTES, `${vm.proxy.bytes} bytes on the wire`);
    await vm.requireEqual(t);
  },
);
