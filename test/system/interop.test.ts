/**
 * A tracked disk under clients that nobody here wrote: what they write is what
 * the file holds, and every block that changed is marked. The oracle compares
 * the file before and after, block by block, and shares nothing with the bitmap.
 */
import { randomBytes } from "node:crypto";
import { access, copyFile, mkdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { run, RunningProgram, scratchDirectory } from "../support/program.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";

const BLOCK = 4096;
const MIB = 1 << 20;
const SIZE = 32 * MIB;
const CONTEXT = "qemu:dirty-bitmap:live";
const directory = await scratchDirectory(t);

interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

interface Tracked {
  readonly path: string;
  readonly uri: string;
  readonly running: RunningProgram;
}

let diskCount = 0;

/** Half random, a quarter a hole, a quarter random. */
async function newDisk(sizeBytes = SIZE): Promise<string> {
  diskCount += 1;
  const path = join(directory, `disk-${diskCount}.raw`);
  const content = randomBytes(sizeBytes);
  await writeFile(path, content.subarray(0, sizeBytes / 2));
  await truncate(path, (sizeBytes * 3) / 4);
  await writeFile(path, content.subarray((sizeBytes * 3) / 4), { flag: "a" });
  return path;
}

async function track(t: Test, path: string, place: "unix" | "tcp"): Promise<Tracked> {
  const socket = ["--socket", `${path}.sock`];
  const where = place === "unix" ? socket : ["--listen", "127.0.0.1:0"];
  const args = ["--json", "track", "--disk", path, ...where];
  const running = await RunningProgram.start(t, args, /\n\}\n$/);
  const { uri } = JSON.parse(running.stdout) as { uri: string };
  return { path, uri, running };
}

/** One byte a block: 1 where it is marked. */
async function marksOf(t: Test, uri: string, sizeBytes = SIZE): Promise<Uint8Array> {
  const map = await succeeds(t, "nbdinfo", `--map=${CONTEXT}`, "--json", uri);
  const marks = new Uint8Array(Math.ceil(sizeBytes / BLOCK));
  let endBytes = 0;
  for (const { offset, length, type } of JSON.parse(map) as Extent[]) {
    if (offset !== endBytes) t.fail(`the map has a gap at ${endBytes}`);
    endBytes = offset + length;
    if ((type & 1) !== 0) marks.fill(1, Math.floor(offset / BLOCK), Math.ceil(endBytes / BLOCK));
  }
  t.equal(endBytes, sizeBytes, "the map covers the disk");
  return marks;
}

function countOf(marks: Uint8Array): number {
  return marks.reduce((sum, mark) => sum + mark, 0);
}

/** Blocks that differ. */
function changedBlocks(before: Buffer, after: Buffer): number[] {
  const changed: number[] = [];
  for (let at = 0; at < before.length; at += BLOCK) {
    if (before.compare(after, at, at + BLOCK, at, at + BLOCK) !== 0) changed.push(at / BLOCK);
  }
  return changed;
}

/** Serves a disk, lets `work` at it, and holds the marks against what has changed in the file. */
async function tracked(
  t: Test,
  place: "unix" | "tcp",
  work: (disk: Tracked) => Promise<void>,
): Promise<{ marks: Uint8Array; changed: number[] }> {
  const path = await newDisk();
  const before = await readFile(path);
  const disk = await track(t, path, place);
  t.equal(countOf(await marksOf(t, disk.uri)), 0, "nothing is marked at first");
  await work(disk);
  const marks = await marksOf(t, disk.uri);
  t.equal((await disk.running.stop()).exitCode, 0);
  const changed = changedBlocks(before, await readFile(path));
  const missed = changed.filter((block) => marks[block] !== 1);
  t.same(missed, [], `each of ${changed.length} changed blocks is marked`);
  t.ok(changed.length > 0, "some were changed");
  return { marks, changed };
}

void t.test("nbdcopy over TCP", { skip: await skipWithout("nbdcopy", "nbdinfo") }, async (t) => {
  const source = await newDisk();
  const { changed } = await tracked(t, "tcp", async ({ uri }) => {
    t.equal((await succeeds(t, "nbdinfo", "--size", uri)).trim(), String(SIZE));
    await succeeds(t, "nbdcopy", "--flush", source, uri);
    await succeeds(t, "nbdcopy", uri, join(directory, "out.raw"));
    await succeeds(t, "cmp", source, join(directory, "out.raw"));
  });
  t.ok(changed.length >= (SIZE / BLOCK) * 0.7);
});

void t.test(
  "reading marks nothing",
  { skip: await skipWithout("nbdcopy", "qemu-img") },
  async (t) => {
    const path = await newDisk();
    const { uri, running } = await track(t, path, "unix");
    await succeeds(t, "nbdcopy", uri, join(directory, "read.raw"));
    await succeeds(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri, path);
    await succeeds(t, "nbdinfo", "--map", uri);
    t.equal(countOf(await marksOf(t, uri)), 0);
    await running.stop();
  },
);

void t.test(
  "qemu-img",
  { skip: await skipWithout("qemu-img", "qemu-io", "nbdinfo") },
  async (t) => {
    const image = join(directory, "in.qcow2");
    await succeeds(t, "qemu-img", "create", "-q", "-f", "qcow2", image, String(SIZE));
    const fill = ["-c", "write -P 0x5a 1M 3M", "-c", "write -P 0xa5 17M 12k"];
    await succeeds(t, "qemu-io", "-f", "qcow2", ...fill, image);
    await tracked(t, "unix", async ({ uri, path }) => {
      await succeeds(t, "qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", image, uri);
      await succeeds(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, uri);
      const out = join(directory, "out.qcow2");
      await succeeds(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, out);
      await succeeds(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", out, path);
      const map = await succeeds(t, "qemu-img", "map", "-f", "raw", "--output=json", uri);
      const extents = JSON.parse(map) as { start: number; length: number; data: boolean }[];
      t.ok(extents.some(({ start, data }) => start <= MIB && data));
    });
  },
);

void t.test("qemu-io", { skip: await skipWithout("qemu-io", "nbdinfo") }, async (t) => {
  const commands = ["write -P 1 1M 64k", "write -P 2 4097k 1k", "write -f -P 3 8M 4k"]
    .concat(["write -z 9M 64k", "write -z -u 10M 64k", "discard 12M 1M", "flush"])
    .flatMap((command) => ["-c", command]);
  const { marks } = await tracked(t, "unix", async ({ uri }) => {
    const said = await succeeds(t, "qemu-io", "-f", "raw", "-d", "unmap", ...commands, uri);
    t.notMatch(said, /error|failed/i);
  });
  // Nothing else is: the marks are those of the requests, rounded outward.
  t.equal(countOf(marks), 16 + 1 + 1 + 16 + 16 + 256);
});

async function fioHasNbd(): Promise<string | false> {
  const missing = await skipWithout("fio", "nbdinfo");
  if (missing !== false) return missing;
  const { stdout } = await run("fio", ["--enghelp"]);
  return /\bnbd\b/.test(stdout) ? false : "fio has no nbd engine";
}

void t.test("fio with verify", { skip: await fioHasNbd() }, async (t) => {
  for (const place of ["unix", "tcp"] as const) {
    const { marks, changed } = await tracked(t, place, async ({ uri }) => {
      const workload = ["--rw=randwrite", "--bsrange=512-64k", "--size=4m", "--iodepth=16"];
      const spread = ["--numjobs=2", "--thread", "--offset_increment=16m", "--randseed=2"];
      const verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--fsync=32"];
      const out = [`--output=${join(directory, "fio.txt")}`, `--aux-path=${directory}`];
      const engine = ["--name=verify", "--ioengine=nbd", `--uri=${uri}`, "--verify_state_save=0"];
      await succeeds(t, "fio", ...engine, ...workload, ...spread, ...verify, ...out);
    });
    t.ok(countOf(marks) <= changed.length + 2, "and hardly a block more");
  }
});

void t.test(
  "marks outlive a restart and kill -9",
  { skip: await skipWithout("qemu-io", "nbdinfo") },
  async (t) => {
    const path = await newDisk();
    const before = await readFile(path);
    let expected = 0;
    for (const [index, signal] of (["SIGTERM", "SIGKILL", "SIGINT"] as const).entries()) {
      const { uri, running } = await track(t, path, "unix");
      t.equal(countOf(await marksOf(t, uri)), expected, "what was marked before");
      await succeeds(t, "qemu-io", "-f", "raw", "-c", `write -P ${index + 1} ${index}M 256k`, uri);
      expected += 64;
      await running.stop(signal);
    }
    const { uri, running } = await track(t, path, "unix");
    const marks = await marksOf(t, uri);
    await running.stop();
    const changed = changedBlocks(before, await readFile(path));
    t.equal(changed.length, expected);
    t.ok(changed.every((block) => marks[block] === 1));
  },
);

async function skipWithoutLoop(): Promise<string | false> {
  if (process.getuid?.() !== 0) return "mounting needs root";
  const tools = ["losetup", "mkfs.ext4", "mount", "unshare", "fusermount3", "debugfs"];
  const missing = await skipWithout("nbdfuse", "nbdinfo", ...tools);
  if (missing !== false) return missing;
  const hasFuse = await access("/dev/fuse").then(
    () => true,
    () => false,
  );
  if (!hasFuse) return "there is no /dev/fuse";
  return (await run("losetup", ["-f"])).exitCode === 0 ? false : "there is no free loop device";
}

void t.test("ext4 on a loop device over FUSE", { skip: await skipWithoutLoop() }, async (t) => {
  const sizeBytes = 64 * MIB;
  const path = await newDisk(sizeBytes);
  const before = join(directory, "before.raw");
  await copyFile(path, before);
  const { uri, running } = await track(t, path, "unix");
  const work = join(directory, "ext4");
  await mkdir(work);
  const script = fileURLToPath(new URL("../support/ext4-over-fuse.sh", import.meta.url));
  const lib = fileURLToPath(new URL("../../lib", import.meta.url));
  const folders = ["model", "tracking", "replica"].map((name) => join(lib, name));
  await succeeds(t, "unshare", "-m", "sh", script, uri, work, ...folders);
  const { stdout: left } = await run("losetup", ["-a"]);
  t.notMatch(left, work, "no loop device is left");
  const marks = await marksOf(t, uri, sizeBytes);
  t.equal((await running.stop()).exitCode, 0);

  await succeeds(t, "e2fsck", "-fn", path);
  const restored = join(directory, "restored");
  await mkdir(restored);
  await succeeds(t, "debugfs", "-R", `rdump / ${restored}`, path);
  for (const folder of ["tracking", "replica"]) {
    await succeeds(t, "diff", "-r", join(lib, folder), join(restored, folder));
  }
  await succeeds(t, "cmp", join(lib, "model/delta.ts"), join(restored, "copied.ts"));
  const changed = changedBlocks(await readFile(before), await readFile(path));
  t.same(
    changed.filter((block) => marks[block] !== 1),
    [],
    `each of ${changed.length} changed blocks is marked`,
  );
  t.ok(changed.length > 100);
});
