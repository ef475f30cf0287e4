import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { exists } from "./cache.js";

const PROJECT = fileURLToPath(new URL("../../..", import.meta.url));
const IN_GUEST = "/tidemark";
const FOLDERS = ["bin", "dist"];
const BUILT = ["package.json", "build/Release/tidemark.node", "build/Release/tidemark-fuse"];

/** Sources, and what was compiled from them for this machine and is not loaded. */
const NOT_TAKEN = /\.(?:d\.ts|map|md|c|cc|cpp|h|hpp|o|a|ts|cts|mts)$|\/(?:deps|obj\.target)\//;

/** Packages that nothing in a guest uses. */
const PACKAGES_LEFT_OUT = new Set(["@peculiar/x509", "reflect-metadata", "node-addon-api"]);

/** This project as it is installed: compiled, with the packages that it needs at run time. */
export async function projectFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const folder of FOLDERS) await addFolder(files, join(PROJECT, folder));
  for (const name of BUILT) {
    if (await exists(join(PROJECT, name))) files.set(join(IN_GUEST, name), join(PROJECT, name));
  }
  const seen = new Set<string>();
  await addDependencies(files, PROJECT, seen);
  return files;
}

async function addFolder(files: Map<string, string>, folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || NOT_TAKEN.test(path)) continue;
    files.set(join(IN_GUEST, relative(PROJECT, path)), path);
  }
}

async function addDependencies(
  files: Map<string, string>,
  packagePath: string,
  seen: Set<string>,
): Promise<void> {
  const manifest: { dependencies?: Record<string, string> } = JSON.parse(
    await readFile(join(packagePath, "package.json"), "utf8"),
  );
  for (const name of Object.keys(manifest.dependencies ?? {})) {
    const path = await findPackage(packagePath, name);
    if (path === null || PACKAGES_LEFT_OUT.has(name) || seen.has(path)) continue;
    seen.add(path);
    await addFolder(files, path);
    await addDependencies(files, path, seen);
  }
}

/** Where Node would find it from there. */
async function findPackage(from: string, name: string): Promise<string | null> {
  for (
    let folder = from;
    folder.startsWith(PROJECT.replace(/\/$/, ""));
    folder = join(folder, "..")
  ) {
    const path = join(folder, "node_modules", name);
    if (await exists(join(path, "package.json"))) return path;
  }
  return null;
}
