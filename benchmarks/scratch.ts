import { randomBytes } from "node:crypto";
import { writeSync } from "node:fs";
import { mkdtemp, open, rm, stat, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { setImmediate } from "node:timers/promises";
import { basename, dirname, join, resolve } from "node:path";
import { BenchError } from "./bench-error.js";
import type { Scratch } from "./model.js";
import { refusalOf } from "./refusal.js";
import type { Scope } from "./scope.js";
import { gatherFacts, type TargetFacts } from "./target-facts.js";

const MIB = 2 ** 20;
const BLOCK_BYTES = 4096;
/** Left free on the file system. */
const RESERVE_BYTES = 256 * MIB;

/** Where a run works: refused, or claimed and given up again with the scope. */
export class Place {
  readonly directory: string;
  readonly #scope: Scope;
  /** An existing file or device that may be overwritten. */
  readonly #target: TargetFacts | null;
  #scratch: Promise<Scratch> | null = null;

  private constructor(scope: Scope, directory: string, target: TargetFacts | null) {
    this.#scope = scope;
    this.directory = directory;
    this.#target = target;
  }

  static async claim(scope: Scope, diskPath: string | null, destroyData: boolean): Promise<Place> {
    if (diskPath === null) return new Place(scope, await makeDirectory(scope, tmpdir()), null);
    const facts = await gatherFacts(resolve(diskPath));
    const refusal = refusalOf(facts, destroyData);
    if (refusal !== null) throw new BenchError(refusal);
    const isExisting = facts.kind === "file" || facts.kind === "device";
    const parent =
      facts.kind === "directory"
        ? facts.path
        : facts.kind === "device"
          ? tmpdir()
          : dirname(facts.path);
    const isThere = await stat(parent).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isThere) {
      throw new BenchError(`Cannot measure on ${facts.path}: because ${parent} is no directory.`);
    }
    const prefix = facts.kind === "absent" ? `${basename(facts.path)}-` : "tidemark-bench-";
    const directory = await makeDirectory(scope, parent, prefix);
    return new Place(scope, directory, isExisting ? facts : null);
  }

  scratch(sizeBytes: number): Promise<Scratch> {
    this.#scratch ??=
      this.#target === null ? this.#makeFile(sizeBytes) : this.#useTarget(this.#target, sizeBytes);
    return this.#scratch;
  }

  /** The next one to ask gets a file whose pages no earlier load has shaped. */
  async forgetScratch(): Promise<void> {
    const scratch = await this.#scratch?.catch(() => null);
    this.#scratch = null;
    if (this.#target === null && scratch) await rm(scratch.path, { force: true });
  }

  async #makeFile(sizeBytes: number): Promise<Scratch> {
    const { bavail, bsize } = await statfs(this.directory);
    if (bavail * bsize < sizeBytes + RESERVE_BYTES) {
      throw new BenchError(
        `Cannot make a scratch file of ${sizeBytes / MIB} MiB: because the file system has only ${Math.floor((bavail * bsize) / MIB)} MiB free. Give a smaller --size.`,
      );
    }
    const path = join(this.directory, "scratch.raw");
    await fill(path, "wx", sizeBytes, this.#scope.signal);
    return { path, sizeBytes };
  }

  async #useTarget(target: TargetFacts, sizeBytes: number): Promise<Scratch> {
    const usedBytes = Math.min(sizeBytes, Math.floor(target.sizeBytes / MIB) * MIB);
    if (usedBytes < 16 * MIB) {
      throw new BenchError(`Cannot measure on ${target.path}: because it is smaller than 16 MiB.`);
    }
    await fill(target.path, "r+", usedBytes, this.#scope.signal);
    return { path: target.path, sizeBytes: usedBytes };
  }
}

export async function makeDirectory(
  scope: Scope,
  parent: string,
  prefix = "tidemark-bench-",
): Promise<string> {
  const directory = await mkdtemp(join(parent, prefix));
  scope.onClose(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/**
 * Written in full, so that no read finds a hole, and synced. In 4 KiB writes:
 * the page cache keeps larger ones in larger folios, and some file systems then
 * charge each 4 KiB write for the whole folio, which hides what a server costs.
 */
async function fill(
  path: string,
  flags: "wx" | "r+",
  sizeBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const file = await open(path, flags, 0o600);
  try {
    const piece = randomBytes(4 * MIB);
    for (let start = 0; start < sizeBytes; start += piece.length) {
      const end = Math.min(sizeBytes, start + piece.length);
      for (let offset = start; offset < end; offset += BLOCK_BYTES) {
        piece.writeBigUInt64LE(BigInt(offset), offset - start);
        writeSync(file.fd, piece, offset - start, BLOCK_BYTES, offset);
      }
      await setImmediate();
      signal.throwIfAborted();
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
