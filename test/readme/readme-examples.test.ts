/** The README's TypeScript is run as it stands, with the package installed beside it. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, open, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import t, { type Test } from "tap";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
const readme = await readFile(join(root, "README.md"), "utf8");
const [trackExample = "", shipExample = "", ...others] = [
  ...readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm),
].map(([, code]) => code);

const DISK_BYTES = 4 << 20;
const WRITTEN = [0, 4096, 1 << 20, (4 << 20) - 4096];

/** A user's directory with a disk of some data and many holes. */
async function project(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-readme-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await mkdir(join(directory, "node_modules"));
  await symlink(root, join(directory, "node_modules", "tidemark"));
  await writeFile(join(directory, "package.json"), '{"type":"module"}');
  await using disk = await open(join(directory, "disk.img"), "w");
  await disk.truncate(DISK_BYTES);
  for (const offset of WRITTEN) await disk.write(Buffer.alloc(4096, `${offset} `), 0, 4096, offset);
  return directory;
}

async function runExample(directory: string, code: string): Promise<string> {
  await writeFile(join(directory, "example.ts"), code);
  const loader = join(root, "node_modules/tsx/dist/loader.mjs");
  const { stdout } = await run(process.execPath, ["--import", loader, "example.ts"], {
    cwd: directory,
  });
  return stdout;
}

void t.test("the README has two examples of about 20 lines", async (t) => {
  t.equal(others.length, 0);
  for (const code of [trackExample, shipExample]) {
    t.ok(code.split("\n").length > 10);
    t.ok(code.split("\n").length <= 25);
  }
});

void t.test("the first example reads exactly what it changed", async (t) => {
  const output = await runExample(await project(t), trackExample);
  t.equal(output, "connect to nbd+unix:///?socket=disk.sock\n4096 bytes changed at 65536\n");
});

void t.test("the second example restores the disk, byte for byte", async (t) => {
  const directory = await project(t);
  await runExample(directory, shipExample);
  const disk = await readFile(join(directory, "disk.img"));
  const copy = await readFile(join(directory, "copy.img"));
  const delta = await readFile(join(directory, "disk.delta"));
  t.equal(copy.length, DISK_BYTES);
  t.ok(copy.equals(disk));
  t.ok(delta.length > WRITTEN.length * 4096, "all data travels");
  t.ok(delta.length < DISK_BYTES / 4, "holes do not");
});
