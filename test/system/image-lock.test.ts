/** Disks of ours and QEMU's programs on the same image: each refuses what the other has. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { TrackedDisk } from "#lib/index.js";
import { eventually } from "../support/loopback-host.js";
import { missingTool, run, scratchDirectory } from "../support/program.js";

const directory = await scratchDirectory(t);
const missing = await missingTool("qemu-img", "qemu-io", "qemu-nbd");
const options = missing === null ? {} : { skip: missing };
let count = 0;

async function newImage(): Promise<string> {
  count += 1;
  const path = join(directory, `${count}.raw`);
  await writeFile(path, "");
  await truncate(path, 4 << 20);
  return path;
}

const openForWriting = (path: string) => run("qemu-io", ["-f", "raw", "-c", "write 0 512", path]);
const readForced = (path: string) => run("qemu-img", ["info", "-U", "-f", "raw", path]);

/** qemu-nbd on the image, until the test ends. */
async function serveByQemu(t: Test, path: string, ...args: string[]): Promise<() => Promise<void>> {
  const socket = `${path}.sock`;
  const program = spawn("qemu-nbd", ["-t", "-f", "raw", "-k", socket, ...args, path]);
  const ended = once(program, "exit");
  const stop = async () => {
    program.kill("SIGTERM");
    await ended;
  };
  t.teardown(stop);
  const uri = `nbd+unix:///?socket=${socket}`;
  await eventually("qemu-nbd", async () => (await run("qemu-img", ["info", uri])).exitCode === 0);
  return stop;
}

void t.test("QEMU's programs refuse to write to a disk that is open here", options, async (t) => {
  const path = await newImage();
  {
    await using disk = await TrackedDisk.open({ path });
    const refused = await openForWriting(path);
    t.not(refused.exitCode, 0);
    t.match(refused.stderr + refused.stdout, /Failed to get "write" lock/);
    t.equal((await readForced(path)).exitCode, 0, "a reader that allows a writer may read");
    t.equal(disk.sizeBytes, 4 << 20);
  }
  t.equal((await openForWriting(path)).exitCode, 0, "the lock went with the disk");
});

void t.test("a disk that QEMU has open is refused, until it is closed", options, async (t) => {
  const path = await newImage();
  const stop = await serveByQemu(t, path);
  await t.rejects(TrackedDisk.open({ path }), {
    code: "IN_USE",
    message: /another process, such as QEMU/,
    hint: /Stop the VM or the tool that has the image open/,
  });
  await stop();
  await using disk = await TrackedDisk.open({ path });
  t.equal(disk.sizeBytes, 4 << 20);
});

void t.test("in a hand-over both have the image, and nobody else gets it", options, async (t) => {
  const path = await newImage();
  const stop = await serveByQemu(t, path);
  await using disk = await TrackedDisk.open({ path, lock: "shared" });
  await t.rejects(TrackedDisk.open({ path, bitmapPath: `${path}.third` }), { code: "IN_USE" });
  await t.rejects(disk.lockImage("exclusive"), { code: "IN_USE" }, "QEMU has it still");
  await stop();
  await disk.lockImage("exclusive");
  const refused = await openForWriting(path);
  t.match(refused.stderr + refused.stdout, /Failed to get "write" lock/);
  // The way back: QEMU may open the image while it is still served here.
  await disk.lockImage("shared");
  t.equal((await openForWriting(path)).exitCode, 0);
});

void t.test("without a lock nobody is refused", options, async (t) => {
  const path = await newImage();
  await serveByQemu(t, path);
  await using disk = await TrackedDisk.open({ path, lock: "none" });
  t.equal(disk.sizeBytes, 4 << 20);
});

void t.test("two disks of ours exclude each other, whatever their bitmaps", async (t) => {
  const path = await newImage();
  await using disk = await TrackedDisk.open({ path });
  const bitmapPath = `${path}.other`;
  await t.rejects(TrackedDisk.open({ path, bitmapPath }), { code: "IN_USE" });
  t.equal(disk.path, path);
});
