import { randomUUID } from "node:crypto";
import { access, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** What is slow to make and the same in every run: kernels and root images. */
export function cachePath(...names: readonly string[]): string {
  const folder = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return join(process.env["TIDEMARK_GUEST_CACHE"] ?? join(folder, "tidemark-guest"), ...names);
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Makes `path` unless it is there. It appears whole or not at all, whoever else
 * makes it at the same time.
 */
export async function cached(path: string, make: (into: string) => Promise<void>): Promise<void> {
  if (await exists(path)) return;
  await mkdir(dirname(path), { recursive: true });
  const unfinished = `${path}.${randomUUID()}.unfinished`;
  try {
    await make(unfinished);
    await rename(unfinished, path).catch(async (thrown: unknown) => {
      if (!(await exists(path))) throw thrown;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** Removes all but the `keptCount` newest whose name begins so. */
export async function prune(prefix: string, keptCount: number): Promise<void> {
  const names = (await readdir(cachePath())).filter((name) => name.startsWith(prefix));
  const aged = await Promise.all(
    names.map(async (name) => {
      const path = cachePath(name);
      return { path, usedMs: (await stat(path).catch(() => null))?.mtimeMs ?? 0 };
    }),
  );
  aged.sort((a, b) => b.usedMs - a.usedMs);
  for (const { path } of aged.slice(keptCount)) await rm(path, { recursive: true, force: true });
}
