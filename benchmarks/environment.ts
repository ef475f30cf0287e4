import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { promisify } from "node:util";
import { isInstalled } from "./program.js";

const run = promisify(execFile);

export type Environment = Record<string, string | number | null>;

/** What a number cannot be read without. No path, no host name: results are shared. */
export async function describeEnvironment(directory: string): Promise<Environment> {
  const [load = 0] = loadavg();
  return {
    date: new Date().toISOString(),
    commit: await gitCommit(),
    kernel: release(),
    cpuModel: cpus()[0]?.model.trim() ?? "unknown",
    cpuCount: availableParallelism(),
    memoryMib: Math.round(totalmem() / 2 ** 20),
    loadAverageBefore: Math.round(load * 100) / 100,
    fileSystem: await fileSystemOf(directory),
    node: process.version,
    fio: await versionOf("fio"),
    "qemu-nbd": await versionOf("qemu-nbd"),
    nbdkit: await versionOf("nbdkit"),
    zstd: await versionOf("zstd"),
  };
}

async function gitCommit(): Promise<string | null> {
  try {
    const { stdout: commit } = await run("git", ["rev-parse", "--short=12", "HEAD"]);
    const { stdout: changed } = await run("git", ["status", "--porcelain", "-uno"]);
    return `${commit.trim()}${changed.trim() === "" ? "" : " with changes"}`;
  } catch {
    return null;
  }
}

async function versionOf(name: string): Promise<string | null> {
  if (!isInstalled(name)) return null;
  try {
    const { stdout } = await run(name, ["--version"]);
    return /\d+\.\d[\w.]*/.exec(stdout)?.[0] ?? null;
  } catch {
    return null;
  }
}

/** The type of the mount with the longest matching path. */
export async function fileSystemOf(path: string): Promise<string | null> {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).trim().split("\n");
  let best: { readonly point: string; readonly type: string } | null = null;
  for (const line of mounts) {
    const [before = "", after = ""] = line.split(" - ");
    const point = before.split(" ")[4] ?? "";
    const isAbove = path === point || path.startsWith(point === "/" ? "/" : `${point}/`);
    if (isAbove && (best === null || point.length >= best.point.length)) {
      best = { point, type: after.split(" ")[0] ?? "" };
    }
  }
  return best?.type ?? null;
}
