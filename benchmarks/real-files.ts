import { createHash } from "node:crypto";
import { type FileHandle, open, opendir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { BenchError } from "./bench-error.js";

const BLOCK_BYTES = 4096;
const LARGEST_BYTES = 16 * 2 ** 20;
/** What a system disk holds: programs and libraries for the most part, the rest text and data. */
const SOURCES = [
  { directory: "/usr/lib", share: 0.6 },
  { directory: "/usr/share", share: 0.3 },
  { directory: "/usr/bin", share: 0.1 },
] as const;

/**
 * A file of the content of real system files, each on whole blocks as on a
 * disk. Where the sources are too small, they come again.
 */
export async function writeRealFiles(
  path: string,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    let offset = 0;
    while (offset < sizeBytes) {
      const before = offset;
      for (const { directory, share } of SOURCES) {
        const end = Math.min(sizeBytes, offset + blocks(sizeBytes * share));
        offset = await copyFrom(directory, file, offset, end, signal);
      }
      if (offset === before) {
        throw new BenchError("Cannot make test data: because /usr holds no readable files.");
      }
    }
    await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
}

async function copyFrom(
  directory: string,
  target: FileHandle,
  from: number,
  end: number,
  signal: AbortSignal,
): Promise<number> {
  let offset = from;
  const paths = await shuffled(directory);
  for (const path of paths) {
    signal.throwIfAborted();
    if (offset >= end) break;
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    if (size === 0 || size > LARGEST_BYTES) continue;
    const content = await readFile(path).catch(() => null);
    if (content === null) continue;
    const lengthBytes = Math.min(content.length, end - offset);
    await target.write(content, 0, lengthBytes, offset);
    offset = Math.min(end, offset + blocks(lengthBytes));
  }
  return offset;
}

/** In an order that is the same on every run, and that mixes the folders. */
async function shuffled(directory: string): Promise<string[]> {
  const paths: string[] = [];
  for await (const entry of await opendir(directory, { recursive: true })) {
    if (entry.isFile()) paths.push(join(entry.parentPath, entry.name));
  }
  const key = (path: string) => createHash("sha1").update(path).digest("hex");
  const keyed = paths.map((path) => ({ path, key: key(path) }));
  return keyed.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ path }) => path);
}

function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}
