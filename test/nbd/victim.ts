/** Our server in a process of its own, with a well-behaved client that must never notice anything. */
import { readdir, readFile, readlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Test } from "tap";
import { RunningProgram } from "../support/program.js";
import { pattern } from "./conformance/pattern.js";
import { Target } from "./conformance/target.js";
import type { Transmission } from "./client/transmission.js";

const CHECK_BYTES = 65536;
let victimCount = 0;

export class Victim {
  readonly running: RunningProgram;
  readonly target: Target;
  readonly diskPath: string;
  readonly #bystander: Transmission;
  readonly #content = pattern(CHECK_BYTES, 77);

  private constructor(
    running: RunningProgram,
    target: Target,
    diskPath: string,
    bystander: Transmission,
  ) {
    this.running = running;
    this.target = target;
    this.diskPath = diskPath;
    this.#bystander = bystander;
  }

  static async start(t: Test, directory: string, sizeBytes = 8 << 20): Promise<Victim> {
    victimCount += 1;
    const diskPath = join(directory, `victim-${victimCount}.raw`);
    await writeFile(diskPath, "");
    await truncate(diskPath, sizeBytes);
    const socket = join(directory, `victim-${victimCount}.sock`);
    const running = await RunningProgram.start(
      t,
      ["track", "--disk", diskPath, "--socket", socket],
      /Ctrl-C/,
    );
    const target = await Target.of(`nbd+unix:///?socket=${socket}`);
    const victim = new Victim(running, target, diskPath, await target.go(await target.handshake()));
    t.teardown(() => victim.#bystander.destroy());
    await victim.#bystander.write(0, victim.#content);
    return victim;
  }

  /** The process lives, the client from before is served, and a new one is. */
  async isUnharmed(t: Test): Promise<void> {
    t.ok(this.running.isRunning, "the process lives");
    const newcomer = await this.target.go(await this.target.handshake());
    for (const client of [this.#bystander, newcomer]) {
      const { error, data } = await client.read(0, CHECK_BYTES);
      t.ok(error === 0 && data.equals(this.#content), "a healthy client reads what it wrote");
      t.equal((await client.write(CHECK_BYTES, this.#content)).error, 0);
    }
    newcomer.destroy();
  }

  async stops(t: Test): Promise<void> {
    this.#bystander.destroy();
    const { exitCode, signal, stderr } = await this.running.stop();
    t.same([exitCode, signal], [0, null], stderr);
  }

  async residentBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.running.processId}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  }

  /** How often the process has the disk open. */
  async timesOpen(): Promise<number> {
    const folder = `/proc/${this.running.processId}/fd`;
    const fds = await readdir(folder);
    const places = await Promise.all(fds.map((fd) => readlink(join(folder, fd)).catch(() => "")));
    return places.filter((place) => place === this.diskPath).length;
  }
}
