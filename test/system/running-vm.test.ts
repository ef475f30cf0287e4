/** A VM that QEMU runs: its disk moved to Tidemark, past it, and back, while it is replicated. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { RecoveryPointBody, VmStatus } from "#lib/management/schemas.js";
import { createCa } from "#lib/security/pki.js";
import { HostProcess } from "../support/host-process.js";
import { IdleQemu, QEMU } from "../support/idle-qemu.js";
import { readDisk } from "../support/journal-oracle.js";
import { missingTool, tidemark } from "../support/program.js";
import { until } from "../support/until.js";

const missing = await missingTool(QEMU, "nbdcopy");
const skip = missing === null ? {} : { skip: missing };
const VM = "web";
const SIZE_BYTES = 8 << 20;
const PATIENCE_MS = 60_000;
t.setTimeout(240_000);

class Scene implements AsyncDisposable {
  readonly directory: string;
  readonly primary: HostProcess;
  readonly replica: HostProcess;
  readonly imagePath: string;
  qemu: IdleQemu;
  #pattern = 0;

  constructor(directory: string, hosts: readonly HostProcess[], qemu: IdleQemu) {
    this.directory = directory;
    this.imagePath = join(directory, "image");
    [this.primary, this.replica] = hosts as [HostProcess, HostProcess];
    this.qemu = qemu;
  }

  static async start(): Promise<Scene> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-live-"));
    const caDirectory = join(directory, "ca");
    await createCa(caDirectory);
    const hosts: HostProcess[] = [];
    for (const name of ["primary", "replica"]) {
      const isReplica = name === "replica";
      hosts.push(await HostProcess.create(directory, { caDirectory, name, isReplica }));
    }
    for (const host of hosts) await host.start();
    const imagePath = join(directory, "image");
    await writeFile(imagePath, randomBytes(SIZE_BYTES));
    return new Scene(directory, hosts, await IdleQemu.start(directory, imagePath));
  }

  /** No guest may see an error, wherever its disk is. */
  async write(t: Test): Promise<void> {
    this.#pattern += 1;
    const at = this.#pattern * 65_536;
    t.equal(await this.qemu.write(this.#pattern, at, 8192), "", `write ${this.#pattern}`);
  }

  async cli(t: Test, ...args: readonly string[]): Promise<string> {
    const ended = await tidemark("--dir", this.primary.directory, "vm", ...args);
    t.equal(ended.exitCode, 0, `vm ${args.join(" ")}: ${ended.stderr}`);
    return ended.stdout;
  }

  status(): Promise<VmStatus> {
    return this.primary.api.call("vmStatus", {}, { vm: VM });
  }

  async untilState(state: string): Promise<VmStatus> {
    return until(`state ${state}`, PATIENCE_MS, async () => {
      const status = await this.status();
      return status.hypervisor?.state === state && status;
    });
  }

  points(): Promise<readonly RecoveryPointBody[]> {
    return this.replica.api.call("pointList", {}, { vm: VM });
  }

  /** A point that was cut after now holds what the image holds, while nobody writes. */
  async replicaIsEqual(t: Test, what: string): Promise<void> {
    const afterMs = Date.now();
    const point = await until(`a point after ${what}`, PATIENCE_MS, async () => {
      const newest = (await this.points().catch(() => [])).at(-1);
      return newest !== undefined && newest.validUntilMs > afterMs && newest;
    });
    const opened = await this.replica.api.call(
      "testFailover",
      { pointId: point.pointId },
      { vm: VM },
    );
    const content = await readDisk(opened.disks[0]?.uri ?? "");
    await this.replica.api.call("exportClose", {}, { export: opened.exportId });
    t.ok(content.equals(await readFile(this.imagePath)), `the replica has all ${what}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.qemu.kill();
    await this.primary.kill();
    await this.replica.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}

const scene = missing === null ? await Scene.start() : null;
t.teardown(() => scene?.[Symbol.asyncDispose]());

/** Each goes on where the one before has left the VM. */
const step = (name: string, run: (t: Test, scene: Scene) => Promise<void>) =>
  void t.test(name, skip, async (t) => {
    if (scene !== null) await run(t, scene);
  });

step("a VM is enabled while it runs", async (t, scene) => {
  const { replica, imagePath, qemu } = scene;
  await scene.write(t);
  const place = `--disk vda=${imagePath} --qemu-monitor ${qemu.monitorPath}`.split(" ");
  const way = `--replica ${replica.peerUrl} --every 1s`.split(" ");
  const out = await scene.cli(t, "enable", VM, ...place, ...way);
  t.match(out, "It runs, and writes to its disks by these exports from now on:");
  t.match(await scene.status(), { hypervisor: { state: "tracked", reason: null } });
  await scene.write(t);
  await scene.replicaIsEqual(t, "after its enabling");
});

step("a snapshot moves its writes away: critical, healed when merged", async (t, scene) => {
  await scene.qemu.snapshot(join(scene.directory, "overlay"));
  const bypassed = await scene.untilState("bypassed");
  t.match(bypassed.relationship?.health, "critical");
  t.match(
    await scene.cli(t, "status", VM),
    /the VM may write past Tidemark, and is not replicated/,
  );
  await scene.write(t);
  const noticedAtMs = Date.now();
  await until("a cycle that fails for it", PATIENCE_MS, async () => {
    return (await scene.status()).relationship?.lastError?.code === "BYPASSED";
  });
  const newest = (await scene.points()).at(-1);
  t.ok((newest?.validUntilMs ?? Infinity) < noticedAtMs, "no point holds what went past");
  await scene.qemu.mergeSnapshot();
  await scene.untilState("tracked");
  await scene.replicaIsEqual(t, "after the snapshot is merged");
});

step("the service is killed under it: no error, and it is tracked again", async (t, scene) => {
  await scene.primary.kill();
  await scene.primary.start();
  await scene.write(t);
  await scene.untilState("tracked");
  await scene.replicaIsEqual(t, "after the service was killed");
});

step("detached for a time, it is compared when it comes back", async (t, scene) => {
  const { primary } = scene;
  await scene.cli(t, "detach", VM);
  t.match(await scene.status(), { hypervisor: { state: "detached" } });
  await scene.write(t);
  await primary.stop();
  await scene.write(t);
  await primary.start();
  t.match(await scene.cli(t, "attach", VM), "web writes by Tidemark.");
  await scene.replicaIsEqual(t, "after it was detached for a time");
  // Of what it wrote while nobody looked, the disk's fingerprint alone would not have to tell.
  const healing = (await scene.status()).relationship?.lastHealing;
  t.equal(healing?.comparedBytes, SIZE_BYTES);
  t.ok(healing?.causes.includes("written past the filter"), String(healing?.causes));
  await scene.write(t);
  await scene.replicaIsEqual(t, "after it was attached");
});

step("the service is killed while it moves the disk: the next one ends it", async (t, scene) => {
  const { primary } = scene;
  for (const failpoint of ["filter.added", "filter.switched"]) {
    await scene.cli(t, "detach", VM);
    await scene.write(t);
    await primary.stop();
    await primary.start(`${failpoint}:1`);
    await primary.api.call("vmAttach", {}, { vm: VM }).catch(() => null);
    t.equal((await primary.death).signal, "SIGKILL", failpoint);
    await primary.start();
    await scene.write(t);
    await scene.untilState("tracked");
    await scene.replicaIsEqual(t, `after the service was killed at ${failpoint}`);
  }
});

step("removed, it writes to its image itself, and needs no service", async (t, scene) => {
  await scene.cli(t, "remove", VM);
  await scene.write(t);
  await scene.primary.stop();
  await scene.write(t);
});
