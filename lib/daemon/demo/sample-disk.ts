import { execFile } from "node:child_process";
import { once } from "node:events";
import { constants, createWriteStream } from "node:fs";
import { copyFile, cp, mkdir, readdir, rm, stat } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { promisify } from "node:util";
import { TidemarkError } from "../../model/errors.js";

const run = promisify(execFile);
const BLOCK_BYTES = 4096;
const MIB = 1 << 20;

export interface SampleDisk {
  readonly path: string;
  /** A copy of the image as it was before the load. */
  readonly initialPath: string;
  readonly sizeBytes: number;
  /** The blocks of the file that the load writes to, so that the file system stays whole. */
  readonly loadBlocks: Uint32Array;
}

export interface SampleDiskOptions {
  readonly directory: string;
  readonly name: string;
  readonly sizeMib: number;
  readonly loadFileMib: number;
  /** Real files to fill it with. */
  readonly sourceDirectories: readonly string[];
  readonly filesMib: number;
  readonly signal: AbortSignal;
}

/** A raw image with an ext4 file system of real files; works for any user, mounts nothing. */
export async function makeSampleDisk(options: SampleDiskOptions): Promise<SampleDisk> {
  const path = join(options.directory, `${options.name}.raw`);
  const initialPath = join(options.directory, `${options.name}.initial.raw`);
  const content = join(options.directory, `${options.name}.files`);
  await mkdir(content, { recursive: true });
  await copyFiles(options, join(content, "files"));
  await writeRandomFile(join(content, "load.bin"), options.loadFileMib, options.signal);
  const { name, sizeMib, signal } = options;
  const format = ["-q", "-F", "-L", name, "-b", String(BLOCK_BYTES), "-d", content];
  await tool("mkfs.ext4", [...format, path, `${sizeMib}M`], signal);
  await rm(content, { recursive: true });
  await copyFile(path, initialPath, constants.COPYFILE_FICLONE);
  const { stdout } = await tool("debugfs", ["-R", "blocks /load.bin", path]);
  const loadBlocks = Uint32Array.from(stdout.trim().split(/\s+/).map(Number));
  return { path, initialPath, sizeBytes: options.sizeMib * MIB, loadBlocks };
}

async function copyFiles(options: SampleDiskOptions, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  let leftBytes = options.filesMib * MIB;
  for (const source of options.sourceDirectories) {
    for (const entry of await readdir(source, { withFileTypes: true, recursive: true }).catch(
      () => [],
    )) {
      options.signal.throwIfAborted();
      if (!entry.isFile()) continue;
      const from = join(entry.parentPath, entry.name);
      const { size } = await stat(from).catch(() => ({ size: 0 }));
      if (size === 0 || size > leftBytes) continue;
      await cp(from, join(target, from.slice(1).replaceAll("/", "_"))).catch(() => undefined);
      leftBytes -= size;
      if (leftBytes < MIB) return;
    }
  }
}

async function writeRandomFile(path: string, sizeMib: number, signal: AbortSignal): Promise<void> {
  const file = createWriteStream(path, { signal });
  for (let written = 0; written < sizeMib; written += 1) {
    signal.throwIfAborted();
    if (!file.write(randomBytes(MIB))) await once(file, "drain");
  }
  file.end();
  await finished(file);
}

/** Programs of e2fsprogs live in sbin, which a user's PATH may lack. */
export async function tool(
  name: string,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<{ readonly stdout: string }> {
  try {
    const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    const options = { env, maxBuffer: 64 * MIB, ...(signal === undefined ? {} : { signal }) };
    return await run(name, [...args], options);
  } catch (cause) {
    throw new TidemarkError(
      "IO_ERROR",
      `Cannot run ${name}: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        hint: "Install the package e2fsprogs if it is missing.",
        cause,
      },
    );
  }
}
