/** Growing a disk: as a library, and of a replicated VM through the command line. */
import { randomBytes } from "node:crypto";
import { stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { TrackedDisk } from "#lib/index.js";
import { memoryDevice } from "#lib/testing.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  type Pair,
  pointsOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

const BLOCK = 4096;
const MIB = 1 << 20;
t.setTimeout(300_000);
const directory = await scratchDirectory(t);

void t.test("a disk grows, and what it grew by is changed for every target", async (t) => {
  await using disk = await TrackedDisk.track(memoryDevice(MIB), { path: join(directory, "grow") });
  await disk.addTarget("a", "nothing");
  await disk.resize(2 * MIB);
  t.equal(disk.sizeBytes, 2 * MIB);
  await disk.addTarget("b", "nothing");
  await disk.write(2 * MIB - BLOCK, Buffer.alloc(BLOCK, 7));
  await using first = await disk.checkpoint("a");
  t.same([...(first.disks[0]?.changedExtents() ?? [])], [{ offsetBytes: MIB, lengthBytes: MIB }]);
  await first.commit();
  await using second = await disk.checkpoint("b");
  t.equal(second.dirtyBytes, BLOCK, "a target added later has only what was written since");
  await t.rejects(disk.resize(MIB), { code: "INVALID_ARGUMENT" });
});

void t.test("a resize waits for an open checkpoint, and a new checkpoint for it", async (t) => {
  await using disk = await TrackedDisk.track(memoryDevice(MIB), { path: join(directory, "wait") });
  await disk.addTarget("a", "nothing");
  const open = await disk.checkpoint("a");
  await t.rejects(disk.resize(2 * MIB, { checkpointWaitMs: 0 }), { code: "IN_USE" });
  const resizing = disk.resize(2 * MIB);
  const rolledBack = open.rollback();
  await using next = await disk.checkpoint("a").catch(async () => {
    await rolledBack;
    return disk.checkpoint("a");
  });
  await resizing;
  t.equal(next.dirtyBytes, MIB);
});

void t.test("no checkpoint of a target begins before the last one has ended", async (t) => {
  await using disk = await TrackedDisk.track(memoryDevice(MIB), { path: join(directory, "turns") });
  await disk.addTarget("a", "nothing");
  for (let round = 0; round < 200; round += 1) {
    const open = await disk.checkpoint("a");
    const ending = round % 2 === 0 ? open.rollback() : open.commit();
    const early = await disk.checkpoint("a").catch((thrown: unknown) => thrown);
    await ending;
    if (!t.match(early, { code: "IN_USE" }, `round ${round}`)) break;
  }
});

void t.test(
  "connected clients may use the new space, and one that comes back sees it",
  async (t) => {
    await using disk = await TrackedDisk.track(memoryDevice(MIB), { path: join(directory, "nbd") });
    const server = await disk.serve({ socketPath: join(directory, "nbd.sock") });
    const client = await NbdClient.connect(server.uriOf(""));
    await t.rejects(client.write(MIB, Buffer.alloc(BLOCK)), { code: "IO_ERROR" });
    await disk.resize(2 * MIB);
    await client.write(MIB, Buffer.alloc(BLOCK, 9));
    server.reconnectClients();
    await eventually("the end of the connection", async () =>
      client.flush().then(
        () => false,
        () => true,
      ),
    );
    const again = await NbdClient.connect(server.uriOf(""));
    t.equal(again.sizeBytes, 2 * MIB);
    t.same(await again.read(MIB, BLOCK), Buffer.alloc(BLOCK, 9));
    again.close();
    client.close();
    t.throws(() => server.reconnectClients("none"), { code: "NOT_FOUND" });
  },
);

void t.test("a file that grew while nobody tracked it has its new area changed", async (t) => {
  const guest = await Guest.make(directory, "behind");
  {
    await using disk = await TrackedDisk.open({ path: guest.diskPath });
    await disk.addTarget("a", "nothing");
  }
  await truncate(guest.diskPath, 5 * MIB);
  await using disk = await TrackedDisk.open({ path: guest.diskPath });
  t.equal(disk.openedClean, true);
  t.equal(disk.targets()[0]?.pendingBytes, MIB);
  await disk.close();
  await truncate(guest.diskPath, 3 * MIB);
  await t.rejects(TrackedDisk.open({ path: guest.diskPath }), { code: "FOREIGN" });
});

/** All of it again from what is on the disks of both hosts. */
async function survivesRestart(pair: Pair, guest: Guest, grown: Buffer): Promise<void> {
  const { primary, replica } = pair;
  const data = randomBytes(BLOCK);
  await primary.stop();
  await replica.stop();
  await replica.start();
  await primary.start();
  const later = await NbdClient.connect(guest.uri);
  await later.write(6 * MIB - BLOCK, data);
  data.copy(grown, 6 * MIB - BLOCK);
  later.close();
  await replicated(primary, "vm");
  t.ok((await contentOfPoint(replica, "vm")).equals(grown), "after a restart of both hosts");
}

async function refusesNonsense(t: Test, dir: readonly string[]): Promise<void> {
  const refused = await tidemark(...dir, "disk", "resize", "vm", "vda", "1MiB");
  t.equal(refused.exitCode, 1);
  t.match(
    refused.stderr,
    /what lies past the new end would be gone.*--drop-data.*\[INVALID_ARGUMENT\]/s,
  );
  const missing = await tidemark(...dir, "disk", "resize", "vm", "vdz", "1MiB");
  t.match(missing.stderr, /NOT_FOUND/);
}

void t.test(
  "the disk of a replicated VM grows: later points have it, earlier ones not",
  async (t) => {
    const pair = await startPair(t, join(directory, "pair"));
    const { primary, replica } = pair;
    const guest = await Guest.make(directory, "vm");
    await guest.enable(primary, pair.replicaUrl);
    await replicated(primary, "vm");
    const [before] = (await pointsOf(replica, "vm")).slice(-1);
    const dir = ["--dir", primary.paths.directory];
    const outcome = await tidemark(
      ...dir,
      "disk",
      "resize",
      "vm",
      "vda",
      "+2MiB",
      "--reconnect-clients",
    );
    t.same([outcome.exitCode, outcome.stderr], [0, ""]);
    t.match(outcome.stdout, "Disk vda of vm has 6.0 MiB now");
    t.equal((await stat(guest.diskPath)).size, 6 * MIB);

    const grown = Buffer.concat([guest.content, Buffer.alloc(2 * MIB)]);
    const data = randomBytes(BLOCK);
    const client = await NbdClient.connect(guest.uri);
    t.equal(client.sizeBytes, 6 * MIB);
    await client.write(5 * MIB, data);
    data.copy(grown, 5 * MIB);
    await replicated(primary, "vm");
    t.ok((await contentOfPoint(replica, "vm")).equals(grown), "the newest point is the grown disk");
    t.ok((await contentOfPoint(replica, "vm", before?.pointId)).equals(guest.content));

    client.close();
    await survivesRestart(pair, guest, grown);
    await refusesNonsense(t, dir);
    await primary.stop();
    await replica.stop();
  },
);

void t.test(
  "T11: the disk of a replicated VM shrinks and grows again: each point has its own size",
  async (t) => {
    const pair = await startPair(t, join(directory, "shrinking"));
    const { primary, replica } = pair;
    const guest = await Guest.make(directory, "cut");
    await guest.enable(primary, pair.replicaUrl);
    await replicated(primary, "cut");
    const [before] = (await pointsOf(replica, "cut")).slice(-1);
    const resize = async (...args: string[]) =>
      tidemark("--dir", primary.paths.directory, "disk", "resize", "cut", "vda", ...args);

    const refused = await resize("1MiB");
    t.match(refused.stderr, /would be gone.*--drop-data.*\[INVALID_ARGUMENT\]/s);
    const shrunk = await resize("1MiB", "--drop-data");
    t.same([shrunk.exitCode, shrunk.stderr], [0, ""]);
    t.equal((await stat(guest.diskPath)).size, MIB);
    await replicated(primary, "cut");
    const small = guest.content.subarray(0, MIB);
    const [middle] = (await pointsOf(replica, "cut")).slice(-1);
    t.ok((await contentOfPoint(replica, "cut")).equals(small), "the newest point is cut");

    t.equal((await resize("3MiB")).exitCode, 0);
    await replicated(primary, "cut");
    const regrown = Buffer.concat([small, Buffer.alloc(2 * MIB)]);
    t.ok((await contentOfPoint(replica, "cut")).equals(regrown), "zeroes, not what was there");
    t.ok((await contentOfPoint(replica, "cut", middle?.pointId)).equals(small));
    const failover = await contentOfPoint(replica, "cut", before?.pointId);
    t.ok(failover.equals(guest.content), "a failover to an older point has the old size");
    await primary.stop();
    await replica.stop();
  },
);
