import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { QemuMonitor } from "./qemu-monitor.js";

export const QEMU = "qemu-system-x86_64";

interface RootDevice {
  readonly qdev: string;
  readonly inserted: { readonly "node-name": string };
}

/** A QEMU with one disk, whose guest never boots: tests write as it would, by a monitor of their own. */
export class IdleQemu implements AsyncDisposable {
  /** For Tidemark. */
  readonly monitorPath: string;
  readonly #child: ChildProcess;
  readonly #own: QemuMonitor;

  private constructor(monitorPath: string, child: ChildProcess, own: QemuMonitor) {
    this.monitorPath = monitorPath;
    this.#child = child;
    this.#own = own;
  }

  /** `file` is what -drive takes. */
  static async start(directory: string, file: string): Promise<IdleQemu> {
    const at = (name: string) => join(directory, name);
    const child = spawn(
      QEMU,
      [
        ..."-accel tcg -M q35 -m 64 -nodefaults -nographic -S".split(" "),
        "-drive",
        `file=${file},format=raw,if=none,id=drive0,cache=none`,
        "-device",
        "virtio-blk-pci,drive=drive0,id=root",
        ...["qmp", "qmp-own"].flatMap((name) => ["-qmp", `unix:${at(name)},server=on,wait=off`]),
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    return new IdleQemu(at("qmp"), child, await QemuMonitor.connect(at("qmp-own")));
  }

  /** As the guest would write; says how it failed, or nothing. */
  async write(pattern: number, offsetBytes: number, lengthBytes: number): Promise<string> {
    const { qdev } = await this.#root();
    const command = `qemu-io -d ${qdev} "write -P ${pattern} ${offsetBytes} ${lengthBytes}"`;
    return String(await this.run("human-monitor-command", { "command-line": command }));
  }

  /** From now on the guest writes to the new file. */
  async snapshot(overlayPath: string): Promise<void> {
    const { inserted } = await this.#root();
    await this.run("blockdev-snapshot-sync", {
      "node-name": inserted["node-name"],
      "snapshot-file": overlayPath,
      "snapshot-node-name": "overlay",
    });
  }

  /** What the snapshot took goes back to where the disk was, and so does the guest. */
  async mergeSnapshot(): Promise<void> {
    await this.run("block-commit", { "job-id": "merge", device: "overlay" });
    await this.#until("ready");
    await this.run("job-complete", { id: "merge" });
    await this.#until(undefined);
  }

  async run(command: string, args: object = {}): Promise<unknown> {
    const { error, ...answer } = await this.#own.run(command, args);
    if (error !== undefined) throw new Error(`${command}: ${error.desc}`);
    return answer.return;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#own.end();
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  async #until(status: string | undefined): Promise<void> {
    for (;;) {
      const jobs = (await this.run("query-jobs")) as readonly { id: string; status: string }[];
      if (jobs.find(({ id }) => id === "merge")?.status === status) return;
    }
  }

  async #root(): Promise<RootDevice> {
    const devices = (await this.run("query-block")) as readonly RootDevice[];
    const root = devices.find(({ qdev }) => qdev.includes("/root/"));
    if (root === undefined) throw new Error("the VM has no disk root");
    return root;
  }
}
