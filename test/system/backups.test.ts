/**
 * Backups by tools that nobody here wrote, of a disk that is written to all the
 * time: the first is full, the others copy what QEMU's clients are told is dirty. The
 * oracle is a copy of the image file at rest, or the guest's own journal.
 */
import { copyFile, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { type Backup, ConsistencyGroup, type NbdServer, TrackedDisk } from "#lib/index.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";
import { JournaledLoad } from "../support/journaled-load.js";
import { judgePoint, readDisk } from "../support/journal-oracle.js";
import { scratchDirectory } from "../support/program.js";
import { stampRun } from "../support/stamped-blocks.js";

const BLOCK = 4096;
const SIZE = 8 << 20;
const NAME = "nightly Straße/9 ☃";
const directory = await scratchDirectory(t);

t.setTimeout(300_000);

async function newDisk(name: string): Promise<TrackedDisk> {
  const path = join(directory, name);
  await writeFile(path, "");
  await truncate(path, SIZE);
  return TrackedDisk.open({ path, granularityBytes: BLOCK });
}

function loadOn(servers: readonly NbdServer[], seed: number): JournaledLoad {
  const uris = servers.map((server) => server.uriOf(""));
  const load = new JournaledLoad({
    uris,
    writtenBlocks: SIZE / BLOCK / 2,
    bytesPerSecond: 8 << 20,
    seed,
  });
  load.start();
  return load;
}

async function writes(load: JournaledLoad, count: number): Promise<void> {
  const until = load.journal.length + count;
  while (load.journal.length < until) await sleep(5);
}

/** What is dirty, as QEMU's client says: it shows it as no data. */
async function dirtyByQemu(t: Test, socket: string): Promise<{ start: number; length: number }[]> {
  const context = `qemu:dirty-bitmap:${NAME}`;
  const options = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=${context}`;
  const map = await succeeds(t, "qemu-img", "map", "--output=json", "--image-opts", options);
  const extents = JSON.parse(map) as { start: number; length: number; data: boolean }[];
  return extents.filter(({ data }) => !data);
}

/** The way that QEMU's documentation shows: copy-on-read of the dirty ranges into an overlay. */
async function incrementByQemu(
  t: Test,
  socket: string,
  base: string,
  image: string,
): Promise<number> {
  const nbd = `nbd+unix:///?socket=${socket}`;
  const options = `cluster_size=${BLOCK}`;
  await succeeds(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, String(SIZE));
  await succeeds(t, "qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", nbd, image);
  const dirty = await dirtyByQemu(t, socket);
  const reads = dirty.flatMap(({ start, length }) => ["-c", `read ${start} ${length}`]);
  if (reads.length > 0) {
    const said = await succeeds(t, "qemu-io", "-C", "-f", "qcow2", ...reads, image);
    t.notMatch(said, "failed");
  }
  const format = base.endsWith(".raw") ? "raw" : "qcow2";
  await succeeds(t, "qemu-img", "rebase", "-u", "-f", "qcow2", "-F", format, "-b", base, image);
  return dirty.reduce((sum, { length }) => sum + length, 0);
}

for (const scope of ["disk", "changes"] as const) {
  void t.test(
    `a chain of backups by nbdcopy and qemu reproduces the disk at each cut (scope ${scope})`,
    { skip: await skipWithout("qemu-img", "qemu-io", "nbdcopy") },
    async (t) => {
      await using disk = await newDisk(`chain-${scope}.raw`);
      await using server = await disk.serve({ socketPath: `${disk.path}.sock` });
      await disk.addBitmap(NAME);
      const load = loadOn([server], 11);
      t.teardown(() => load.stop());
      const socket = `${disk.path}.backup.sock`;
      let base = "";
      for (let round = 0; round < 4; round += 1) {
        await writes(load, 60);
        load.pause();
        while (load.journal.at(-1)?.ackedAtMs === Number.POSITIVE_INFINITY) await sleep(5);
        const oracle = join(directory, `oracle-${scope}-${round}.raw`);
        await copyFile(disk.path, oracle);
        await using backup = await disk.beginBackup(NAME, { scope });
        load.resume();
        await backup.serve({ socketPath: socket });
        await writes(load, 60);
        const image = join(directory, `backup-${scope}-${round}.${round === 0 ? "raw" : "qcow2"}`);
        if (round === 0) {
          await succeeds(t, "nbdcopy", `nbd+unix:///?socket=${socket}`, image);
        } else {
          const copiedBytes = await incrementByQemu(t, socket, base, image);
          t.equal(copiedBytes, backup.disks[0]?.changedBytes);
          t.ok(copiedBytes > 0 && copiedBytes < SIZE / 2, `${copiedBytes} bytes, not all`);
        }
        await succeeds(t, "qemu-img", "compare", image, oracle);
        if (scope === "disk") {
          await succeeds(t, "qemu-img", "compare", `nbd+unix:///?socket=${socket}`, image);
        }
        base = image;
        // One that is abandoned costs nothing but its bytes.
        if (round === 1) await backup.abandon();
        else await backup.commit();
      }
      await load.stop();
    },
  );
}

void t.test(
  "two disks are backed up as of one instant, a prefix of the guest's journal",
  async (t) => {
    await using first = await newDisk("two-a.raw");
    await using second = await newDisk("two-b.raw");
    const disks = [first, second];
    const images = disks.map((_disk, index) => stampRun(index, 0, SIZE / BLOCK, 0));
    for (const [index, disk] of disks.entries())
      await disk.write(0, stampRun(index, 0, SIZE / BLOCK, 0));
    const servers: NbdServer[] = [];
    for (const disk of disks) {
      servers.push(await disk.serve({ socketPath: `${disk.path}.sock` }));
      await disk.addBitmap(NAME, "nothing");
    }
    const group = new ConsistencyGroup(disks);
    const load = loadOn(servers, 5);
    t.teardown(() => load.stop());
    for (let round = 0; round < 12; round += 1) {
      await writes(load, 40);
      await using backup = await insist(() => group.beginBackup(NAME));
      await using server = await backup.serve({ socketPath: join(directory, "two.sock") });
      await writes(load, 40);
      for (const [index, disk] of backup.disks.entries()) {
        for (const { offsetBytes, lengthBytes } of disk.changedExtents()) {
          const into = images[index]?.subarray(offsetBytes, offsetBytes + lengthBytes);
          await disk.read(offsetBytes, into ?? Buffer.alloc(0));
        }
        const frozen = await readDisk(server.uriOf(String(index)));
        t.ok(images[index]?.equals(frozen), `round ${round}: disk ${index} is base and changes`);
      }
      const point = { label: String(round), takenAtMs: backup.takenAtMs, disks: images };
      t.same(judgePoint(point, load.journal).faults, []);
      if (round % 3 === 2) await backup.abandon();
      else await backup.commit();
    }
    await load.stop();
    for (const server of servers) await server.close();
  },
);

async function insist(begin: () => Promise<Backup>): Promise<Backup> {
  for (;;) {
    try {
      return await begin();
    } catch (thrown) {
      if ((thrown as { code?: string }).code !== "TIMED_OUT") throw thrown;
    }
  }
}

void t.test(
  "bitmaps outlive the process's end, with name and bits; a backup does not",
  async (t) => {
    const disk = await newDisk("durable.raw");
    const { path } = disk;
    await disk.addBitmap(NAME, "nothing");
    await disk.addBitmap("6d1b6b5e-2c3f-4d6a-9c39-1f0a5b3c7d21", "nothing");
    await disk.write(3 * BLOCK, Buffer.alloc(BLOCK, 1));
    const abandoned = await disk.beginBackup(NAME);
    await disk.write(9 * BLOCK, Buffer.alloc(BLOCK, 2));
    await t.rejects(disk.close(), { code: "IN_USE" });
    await t.rejects(disk.beginBackup(NAME), { code: "IN_USE" });
    await t.rejects(disk.removeBitmap(NAME), { code: "IN_USE" });
    await t.rejects(disk.addBitmap(NAME), { code: "ALREADY_EXISTS" });
    await abandoned.abandon();
    await t.rejects(abandoned.commit(), { code: "CLOSED" });
    await disk.close();
    {
      await using again = await TrackedDisk.open({ path });
      const shown = again.bitmaps().map(({ name, changedBytes }) => [name, changedBytes]);
      t.same(shown, [
        [NAME, 2 * BLOCK],
        ["6d1b6b5e-2c3f-4d6a-9c39-1f0a5b3c7d21", 2 * BLOCK],
      ]);
      await again.removeBitmap(NAME);
      await t.rejects(again.beginBackup(NAME), { code: "NOT_FOUND" });
    }
    await writeFile(`${path}.tidemark.names`, "damaged");
    await using last = await TrackedDisk.open({ path });
    t.same(last.bitmaps(), [], "only the names are lost");
    t.equal(last.targets().length, 1);
  },
);

void t.test("replication's own target is no bitmap", async (t) => {
  await using disk = await newDisk("own.raw");
  const targetId = "0e9e7a52-55b1-4d07-a2a3-2cf9a64a3a10";
  await disk.addTarget(targetId, "nothing");
  t.same(disk.bitmaps(), []);
  await t.rejects(disk.beginBackup(targetId), { code: "NOT_FOUND" });
  await t.rejects(disk.removeBitmap(targetId), { code: "NOT_FOUND" });
  await t.rejects(disk.addBitmap(targetId), { code: "ALREADY_EXISTS" });
  await t.rejects(disk.addBitmap("live"), { code: "INVALID_ARGUMENT" });
  await t.rejects(disk.addBitmap("x".repeat(256)), { code: "INVALID_ARGUMENT" });
  t.same(disk.targets().length, 1);
});

void t.test(
  "T20: what does not fit breaks the backup, not the guest; the bits are kept",
  async (t) => {
    await using disk = await newDisk("broken.raw");
    await disk.addBitmap(NAME, "nothing");
    await disk.write(0, Buffer.alloc(2 * BLOCK, 1));
    const backup = await disk.beginBackup(NAME, { captureMemoryBytes: BLOCK, spillPath: "" });
    await disk.write(64 * BLOCK, Buffer.alloc(8 * BLOCK, 2));
    t.match(backup.brokenReason(), "full");
    await t.rejects(backup.disks[0]?.read(0, Buffer.alloc(BLOCK)) ?? Promise.resolve());
    await t.rejects(backup.commit(), { code: "CAPTURE_BROKEN" });
    await backup.abandon();
    await using next = await disk.beginBackup(NAME);
    t.same(
      [...(next.disks[0]?.changedExtents() ?? [])],
      [
        { offsetBytes: 0, lengthBytes: 2 * BLOCK },
        { offsetBytes: 64 * BLOCK, lengthBytes: 8 * BLOCK },
      ],
    );
    const content = Buffer.alloc(SIZE);
    await next.disks[0]?.read(0, content);
    t.ok(content.equals(await readFile(disk.path)));
  },
);

void t.test("T22: what could not be committed counts again, and another can begin", async (t) => {
  await using disk = await newDisk("uncommitted.raw");
  await disk.addBitmap(NAME, "nothing");
  await disk.write(0, Buffer.alloc(2 * BLOCK, 1));
  const backup = await disk.beginBackup(NAME);
  Object.defineProperty(disk.native, "commit", {
    configurable: true,
    value: () => Promise.reject(new Error("the bitmap's storage fails")),
  });
  await t.rejects(backup.commit(), { message: /storage fails/ });
  t.ok(backup.hasEnded);
  Reflect.deleteProperty(disk.native, "commit");
  await using next = await disk.beginBackup(NAME);
  t.same(
    [...(next.disks[0]?.changedExtents() ?? [])],
    [{ offsetBytes: 0, lengthBytes: 2 * BLOCK }],
  );
  await next.commit();
});
