/**
 * Checks the types of everything and leaves the tests as JavaScript in build-tests/: with a
 * loader each of the hundreds of processes would compile for itself. What the tests find
 * beside themselves is there too, as copies: a test that copies a fixture and writes to it must
 * not reach the original through a link. The project above them is there by symbolic links.
 */
import { spawnSync } from "node:child_process";
import { copyFile, lstat, mkdir, readdir, rm, symlink } from "node:fs/promises";
import { join, relative } from "node:path";
import { COMPILED } from "./compiled-path.js";

const COMPILED_FOLDERS = ["benchmarks", "test", "tools"];

function compile(): boolean {
  const options = ["--noEmit", "false", "--outDir", COMPILED, "--declaration", "false"];
  const { status } = spawnSync(
    "node_modules/.bin/tsc",
    ["-p", "tsconfig.test.json", ...options, "--sourceMap", "false"],
    { stdio: "inherit" },
  );
  return status === 0;
}

async function copyFolder(folder: string): Promise<void> {
  await mkdir(join(COMPILED, folder), { recursive: true });
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await copyFolder(path);
    else await copyFile(path, join(COMPILED, path));
  }
}

async function link(path: string): Promise<void> {
  const place = join(COMPILED, path);
  const isThere = await lstat(place).then(
    () => true,
    () => false,
  );
  if (!isThere) await symlink(relative(join(place, ".."), path), place);
}

await rm(COMPILED, { recursive: true, force: true });
if (!compile()) process.exit(1);
// The tests use dist/, as it ships.
await rm(join(COMPILED, "lib"), { recursive: true, force: true });
for (const name of await readdir(".")) {
  if (COMPILED_FOLDERS.includes(name)) await copyFolder(name);
  else if (name !== ".git" && name !== COMPILED) await link(name);
}
