/** A QEMU whose guest never boots, with a raw disk and a qcow2 disk, and tracked disks beside it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type NbdServer, QemuHypervisor, TrackedDisk } from "#lib/index.js";
import type { DiskFilter, Hypervisor } from "#lib/model/hypervisor.js";
import type { HypervisorScene } from "../contracts/hypervisor.js";
import { output, scratchDirectory, type Teardown } from "../support/program.js";
import { QemuMonitor } from "../support/qemu-monitor.js";

export const QEMU = "qemu-system-x86_64";
export const SIZE_BYTES = 8 << 20;

/** How a user may have given QEMU the raw disk. */
export const WAYS = {
  "-drive": (path: string) => [
    "-drive",
    `file=${path},format=raw,if=none,id=drive0,cache=none`,
    "-device",
    "virtio-blk-pci,drive=drive0,id=root",
  ],
  "-blockdev": (path: string) => [
    "-blockdev",
    `driver=file,filename=${path},node-name=file0,cache.direct=on`,
    "-blockdev",
    "driver=raw,file=file0,node-name=raw0,cache.direct=on,detect-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=raw0,id=root",
  ],
} as const;

interface RootDevice {
  readonly qdev: string;
  readonly inserted: { readonly "node-name": string };
}

export class QemuScene implements HypervisorScene {
  readonly hypervisor: Hypervisor;
  readonly filter: DiskFilter;
  readonly otherFilter: DiskFilter;
  readonly disk: TrackedDisk;
  /** What the tests themselves say to QEMU. */
  readonly monitor: QemuMonitor;
  readonly monitorPath: string;
  readonly #directory: string;
  readonly #child: ChildProcess;
  readonly #servers: NbdServer[] = [];

  private constructor(
    directory: string,
    disk: TrackedDisk,
    child: ChildProcess,
    monitor: QemuMonitor,
  ) {
    this.#directory = directory;
    this.#child = child;
    this.disk = disk;
    this.monitor = monitor;
    this.monitorPath = join(directory, "qmp");
    this.hypervisor = new QemuHypervisor({ monitors: { web: this.monitorPath } });
    const at = (socket: string) => ({
      socketPath: join(directory, socket),
      exportName: "root",
      imagePath: disk.path,
    });
    this.filter = at("nbd");
    this.otherFilter = at("nbd2");
  }

  static async make(t: Teardown, way: keyof typeof WAYS): Promise<QemuScene> {
    const directory = await scratchDirectory(t);
    const [raw, qcow2] = [join(directory, "raw"), join(directory, "qcow2")];
    await writeFile(raw, "");
    await truncate(raw, SIZE_BYTES);
    await output("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M");
    const disk = await TrackedDisk.open({ path: raw, lock: "none", direct: true });
    t.teardown(() => disk.close());
    const machine = "-accel tcg -M q35 -m 64 -nodefaults -nographic -S -device qemu-xhci".split(
      " ",
    );
    const data = ["-drive", `file=${qcow2},format=qcow2,if=none,id=data`];
    const monitors = ["qmp", "own"].flatMap((name) => [
      "-qmp",
      `unix:${join(directory, name)},server=on,wait=off`,
    ]);
    const devices = [...WAYS[way](raw), ...data, "-device", "virtio-blk-pci,drive=data"];
    const child = spawn(QEMU, [...machine, ...devices, ...monitors], { stdio: "ignore" });
    const ended = once(child, "exit");
    t.teardown(async () => {
      child.kill("SIGKILL");
      await ended;
    });
    const monitor = await QemuMonitor.connect(join(directory, "own"));
    t.teardown(() => monitor.end());
    const scene = new QemuScene(directory, disk, child, monitor);
    await scene.serve();
    return scene;
  }

  async serve(): Promise<void> {
    for (const { socketPath, exportName } of [this.filter, this.otherFilter]) {
      this.#servers.push(await this.disk.serve({ socketPath, exportName }));
    }
  }

  async stopServing(): Promise<void> {
    for (const server of this.#servers.splice(0)) await server.close();
  }

  async pause(): Promise<void> {
    await this.monitor.run("stop");
  }

  async resume(): Promise<void> {
    await this.monitor.run("cont");
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  async bypass(): Promise<void> {
    const { inserted } = await this.#rootDevice();
    const { error } = await this.monitor.run("blockdev-snapshot-sync", {
      "node-name": inserted["node-name"],
      "snapshot-file": join(this.#directory, "overlay"),
      "snapshot-node-name": "overlay",
    });
    if (error !== undefined) throw new Error(error.desc);
  }

  /** As the guest would write; says how it failed, or nothing. */
  async guestWrites(pattern: number, offsetBytes: number, lengthBytes: number): Promise<string> {
    const { qdev } = await this.#rootDevice();
    const command = `qemu-io -d ${qdev} "write -P ${pattern} ${offsetBytes} ${lengthBytes}"`;
    const answer = await this.monitor.run("human-monitor-command", { "command-line": command });
    return String(answer.return);
  }

  /** Names of the nodes and jobs that there are, without those QEMU has made up. */
  async leftovers(): Promise<readonly string[]> {
    const nodes = await this.query<{ "node-name": string }>("query-named-block-nodes");
    const jobs = await this.query<{ id: string }>("query-jobs");
    const names = [...nodes.map((node) => node["node-name"]), ...jobs.map(({ id }) => id)];
    return names.filter((name) => !name.startsWith("#")).sort();
  }

  async #rootDevice(): Promise<RootDevice> {
    const devices = await this.query<RootDevice>("query-block");
    const root = devices.find(({ qdev }) => qdev.includes("/root/"));
    if (root === undefined) throw new Error("the VM has no disk root");
    return root;
  }

  async query<T>(command: string): Promise<readonly T[]> {
    return (await this.monitor.run(command)).return as readonly T[];
  }
}
