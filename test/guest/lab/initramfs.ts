import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createWriteStream } from "node:fs";
import type { GuestKernel } from "./kernel.js";
import { outputOf, requireProgram } from "./programs.js";
import { EARLY_INIT } from "./scripts.js";

/** Without these a guest does not see its root disk. */
const EARLY_MODULES = ["virtio_pci", "virtio_blk"];

/** What reaches the root disk without being in its image. */
export interface Job {
  /** Run by sh in /job. */
  readonly script: string;
  /** Files beside it, by name. */
  readonly files: Readonly<Record<string, string | Uint8Array>>;
}

/** One archive with what starts the guest, and a second one with the job behind it. */
export async function writeInitramfs(into: string, kernel: GuestKernel, job: Job): Promise<void> {
  const stage = await mkdtemp(join(tmpdir(), "tidemark-initramfs-"));
  try {
    await stageBase(join(stage, "base"), kernel);
    await stageJob(join(stage, "job"), job);
    const archives = [join(stage, "base.cpio"), join(stage, "job.cpio")] as const;
    await archive(join(stage, "base"), archives[0]);
    await archive(join(stage, "job"), archives[1]);
    await writeFile(into, Buffer.concat(await Promise.all(archives.map((path) => readFile(path)))));
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

async function stageBase(stage: string, kernel: GuestKernel): Promise<void> {
  await mkdir(join(stage, "bin"), { recursive: true });
  await copyFile(await requireProgram("busybox"), join(stage, "bin", "busybox"));
  await writeFile(join(stage, "init"), EARLY_INIT, { mode: 0o755 });
  const paths: string[] = [];
  for (const name of EARLY_MODULES) {
    for (const path of await kernel.moduleFiles(name)) if (!paths.includes(path)) paths.push(path);
  }
  for (const path of paths) await copyFile(path, join(stage, basename(path)));
  await writeFile(join(stage, "modules"), paths.map((path) => `/${basename(path)}\n`).join(""));
}

async function stageJob(stage: string, { script, files }: Job): Promise<void> {
  for (const [name, content] of Object.entries({ ...files, "run.sh": script })) {
    const path = join(stage, "job", name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content, { mode: 0o755 });
  }
}

async function archive(folder: string, into: string): Promise<void> {
  const names = await outputOf("find", folder, "-mindepth", "1", "-printf", "%P\\n");
  const options = ["-o", "-H", "newc", "--quiet", "-R", "+0:+0", "-D", folder];
  const cpio = spawn(await requireProgram("cpio"), options, { stdio: ["pipe", "pipe", "inherit"] });
  cpio.stdin.end(names);
  const ended = once(cpio, "close");
  await pipeline(cpio.stdout, createWriteStream(into));
  const [exitCode] = (await ended) as [number | null];
  if (exitCode !== 0) throw new Error(`Cannot write ${into}: because cpio ended with ${exitCode}.`);
}
