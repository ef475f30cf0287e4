/**
 * Power cuts as near as one machine can come: a process that tracks a disk on a file
 * system of its own, in a loop device, whose backing file is copied at random instants
 * without any sync. native/test/power_cut_tool.cc does the work; here are the file
 * systems, which live in mount namespaces and are gone, with their loop devices, when
 * their processes are.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { missingTool, output, run } from "./program.js";
import { until } from "./until.js";

const IMAGE_BYTES = 96 << 20;
const PATIENCE_MS = 30_000;

export const POWER_CUT_TOOL = fileURLToPath(
  new URL("../../build-native/power_cut_tool", import.meta.url),
);

/** A sync that is left out. */
export type PlantedFault = "none" | "intent" | "map" | "flush";

export interface CutFindings {
  readonly commits: number;
  /** Blocks that the replica does not have as the disk has them. */
  readonly differing: number;
  readonly torn: number;
  readonly suspectRegions: number;
  /** Blocks that differ, and are neither marked nor suspect. */
  readonly lost: readonly number[];
  /** Blocks that are older than a flush that was answered. */
  readonly unflushed: readonly number[];
}

export interface Cut extends CutFindings {
  readonly attempts: number;
  /** No copy could be made while the writer ran. */
  readonly stopped: boolean;
}

export async function powerCutIsMissing(): Promise<string | false> {
  if (process.getuid?.() !== 0) return "mounting needs root";
  const missing = await missingTool("losetup", "mkfs.ext4", "mount", "unshare");
  if (missing !== null) return `${missing} is not installed`;
  if (!existsSync(POWER_CUT_TOOL)) return "the native tests are not built";
  return (await run("losetup", ["-f"])).exitCode === 0 ? false : "there is no free loop device";
}

/** A machine whose power is cut: as often as one likes, for it never notices. */
export class PowerCutMachine implements AsyncDisposable {
  readonly #directory: string;
  readonly #child: ChildProcess;
  #statistics = "";
  #cutCount = 0;

  private constructor(directory: string, child: ChildProcess) {
    this.#directory = directory;
    this.#child = child;
  }

  static async start(
    directory: string,
    seed: number,
    fault: PlantedFault = "none",
  ): Promise<PowerCutMachine> {
    const image = join(directory, "image");
    await mkdir(join(directory, "mount"), { recursive: true });
    await mkdir(join(directory, "after"), { recursive: true });
    await writeFile(image, "");
    await truncate(image, IMAGE_BYTES);
    // Small and lazily made, so that a copy of it takes a millisecond or two.
    const lazy = "lazy_journal_init=1,lazy_itable_init=1";
    await output("mkfs.ext4", "-q", "-J", "size=4", "-N", "64", "-E", lazy, image);
    const mounted = ["-m", "sh", "-ec", 'mount -o loop image mount; exec "$@"', "sh"];
    const write = [POWER_CUT_TOOL, "write", "mount", join(directory, "journal"), `${seed}`, fault];
    const child = spawn("unshare", [...mounted, ...write], {
      cwd: directory,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const machine = new PowerCutMachine(directory, child);
    try {
      await machine.#untilWriting();
    } catch (thrown) {
      await machine[Symbol.asyncDispose]();
      throw thrown;
    }
    return machine;
  }

  /** Cuts the power at an instant that the seed chooses, and looks at what is left. */
  async cut(): Promise<Cut> {
    this.#cutCount += 1;
    const [image, journal, copy] = ["image", "journal", "copy"].map((name) =>
      join(this.#directory, name),
    ) as [string, string, string];
    const copying = ["cut", image, this.#statistics, journal, copy];
    const made = JSON.parse(
      await output(POWER_CUT_TOOL, ...copying, `${this.#child.pid}`, `${this.#cutCount}`),
    ) as { before: number; after: number; attempts: number; stopped: boolean };
    // The mount is the file system's own recovery.
    const script = 'mount -o loop "$1" "$2"; shift; shift; "$@"';
    const after = join(this.#directory, "after");
    const check = [POWER_CUT_TOOL, "check", after, journal, `${made.before}`, `${made.after}`];
    const found = JSON.parse(
      await output("unshare", "-m", "sh", "-ec", script, "sh", copy, after, ...check),
    ) as CutFindings;
    return { ...found, attempts: made.attempts, stopped: made.stopped };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const closed = once(this.#child, "close");
      this.#child.kill("SIGKILL");
      await closed;
    }
    await until("the loop devices to go", PATIENCE_MS, async () => {
      const { stdout } = await run("losetup", ["-a"]);
      return stdout.includes(this.#directory) ? null : true;
    });
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #untilWriting(): Promise<void> {
    const ended = once(this.#child, "close").then(([code]) => {
      throw new Error(`the machine did not start (${String(code)})`);
    });
    ended.catch(() => undefined);
    const said = this.#child.stdout;
    if (said === null) throw new Error("the machine says nothing");
    await Promise.race([once(said, "data"), ended]);
    const listed = await output("losetup", "-j", join(this.#directory, "image"), "-nO", "NAME");
    this.#statistics = `/sys/block/${basename(listed.trim())}/stat`;
  }
}
