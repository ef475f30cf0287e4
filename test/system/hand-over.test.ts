/** A tracked disk that changes hosts: two processes, and a replica that must not notice. */
import { copyFile, mkdir, open, readFile, rename, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { describeDiskState, exportDiskState, importDiskState, TrackedDisk } from "#lib/index.js";
import {
  missingTool,
  run,
  RunningProgram,
  scratchDirectory,
  tidemark,
} from "../support/program.js";
import { SeededRandom } from "../support/seeded-random.js";

const BLOCK = 4096;
const SIZE = 32 * (1 << 20) + 512;
t.setTimeout(300_000);

/** What the guest wrote, and so what every copy must hold in the end. */
class Guest {
  readonly content = Buffer.alloc(SIZE);
  readonly #random = new SeededRandom(42);

  async write(client: NbdClient, count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const lengthBytes = (1 + this.#random.below(8)) * 512;
      const offsetBytes = this.#random.below((SIZE - lengthBytes) / 512) * 512;
      const data = Buffer.alloc(lengthBytes, 1 + this.#random.below(255));
      await client.write(offsetBytes, data);
      data.copy(this.content, offsetBytes);
    }
  }
}

interface Hosts {
  readonly a: string;
  readonly b: string;
  readonly replica: string;
}

/** A disk on host A that a replica follows: both all zero. */
async function makeHosts(directory: string): Promise<Hosts> {
  const hosts = {
    a: join(directory, "a", "disk.raw"),
    b: join(directory, "b", "disk.raw"),
    replica: join(directory, "replica.raw"),
  };
  await mkdir(join(directory, "a"), { recursive: true });
  await mkdir(join(directory, "b"), { recursive: true });
  for (const path of [hosts.a, hosts.replica]) {
    await (await open(path, "w")).close();
    await truncate(path, SIZE);
  }
  await using disk = await TrackedDisk.open({ path: hosts.a });
  await disk.addTarget("replica", "nothing");
  return hosts;
}

async function track(t: Test, path: string, ...more: string[]): Promise<RunningProgram> {
  const args = ["track", "--disk", path, "--socket", `${path}.sock`, ...more];
  return RunningProgram.start(t, args, /Serving/);
}

function connect(path: string): Promise<NbdClient> {
  return NbdClient.connect(`nbd+unix:///?socket=${path}.sock`);
}

async function guestWrites(t: Test, path: string, guest: Guest, count: number): Promise<void> {
  const program = await track(t, path);
  const client = await connect(path);
  await guest.write(client, count);
  client.close();
  t.equal((await program.stop()).exitCode, 0);
}

/** What the disk's holder says has changed, and nothing else. */
async function applyDelta(disk: TrackedDisk, replicaPath: string): Promise<number> {
  await using checkpoint = await disk.checkpoint("replica");
  const replica = await open(replicaPath, "r+");
  for (const member of checkpoint.disks) {
    for (const { offsetBytes, lengthBytes } of member.changedExtents()) {
      await replica.write(await member.read(offsetBytes, lengthBytes), 0, lengthBytes, offsetBytes);
    }
  }
  await replica.close();
  await checkpoint.commit();
  return checkpoint.dirtyBytes;
}

async function isEqual(t: Test, one: string, other: string): Promise<void> {
  if ((await missingTool("qemu-img")) !== null) return;
  const compared = await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", one, other]);
  t.equal(compared.exitCode, 0, compared.stdout);
}

void t.test(
  "a disk moves to another host, whose delta alone makes the replica equal",
  async (t) => {
    const { a, b, replica } = await makeHosts(await scratchDirectory(t));
    const guest = new Guest();
    await guestWrites(t, a, guest, 200);
    const exported = await tidemark("disk", "export-state", a, `${a}.state`);
    t.equal(exported.exitCode, 0, exported.stderr);
    await copyFile(a, b);
    await rename(`${a}.state`, `${b}.state`);

    const refused = await tidemark("track", "--disk", a, "--socket", `${a}.sock`);
    t.match(refused.stderr, /was handed over with state .*\[HANDED_OVER\]/s);
    t.match((await tidemark("disk", "show-state", `${b}.state`)).stdout, /epoch 1; .*\nexported/);
    const imported = await tidemark("disk", "import-state", `${b}.state`, b);
    t.match(imported.stdout, /is tracked here now, where it was left/, imported.stderr);
    const twice = await tidemark("disk", "import-state", `${b}.state`, b);
    t.match(twice.stderr, /\[HANDED_OVER\]/);

    await guestWrites(t, b, guest, 200);
    await using disk = await TrackedDisk.open({ path: b });
    t.same(disk.foundCauses, []);
    const deltaBytes = await applyDelta(disk, replica);
    t.ok(deltaBytes < SIZE / 2, "a delta, not everything");
    t.ok((await readFile(replica)).equals(guest.content), "as the guest has written it");
    await isEqual(t, b, replica);
  },
);

void t.test("named bitmaps go with the state, and are listed where it is imported", async (t) => {
  const { a, b } = await makeHosts(await scratchDirectory(t));
  {
    await using disk = await TrackedDisk.open({ path: a });
    await disk.addBitmap("nightly", "nothing");
    await disk.addBitmap("wöchentlich", "nothing");
    await disk.addBitmap("gone", "nothing");
    await disk.removeBitmap("gone");
    await disk.write(BLOCK, Buffer.alloc(BLOCK, 7));
    const { bitmapNames } = await disk.handOver(`${a}.state`);
    t.same(bitmapNames, ["nightly", "wöchentlich"]);
  }
  const shown = await tidemark("disk", "show-state", `${a}.state`);
  t.match(shown.stdout, "named bitmaps: nightly, wöchentlich");
  await copyFile(a, b);
  await importDiskState({ path: b, statePath: `${a}.state` });
  await using disk = await TrackedDisk.open({ path: b });
  t.same(
    disk.bitmaps().map(({ name, changedBytes }) => ({ name, changedBytes })),
    ["nightly", "wöchentlich"].map((name) => ({ name, changedBytes: BLOCK })),
  );
  await disk.removeBitmap("nightly");
});

void t.test("an export that nobody imported is taken back, and tracking goes on", async (t) => {
  const { a, b, replica } = await makeHosts(await scratchDirectory(t));
  const guest = new Guest();
  await guestWrites(t, a, guest, 50);
  await (await TrackedDisk.open({ path: a })).handOver(`${a}.state`);
  await copyFile(a, b);
  const neither = await tidemark("disk", "take-back-state", a);
  t.match(neither.stderr, /needs either --state or --force.*\[INVALID_ARGUMENT\]/s);
  const taken = await tidemark("disk", "take-back-state", a, "--state", `${a}.state`);
  t.equal(taken.exitCode, 0, taken.stderr);
  await t.rejects(importDiskState({ path: b, statePath: `${a}.state` }), { code: "HANDED_OVER" });
  t.equal((await describeDiskState(`${a}.state`)).stage, "taken back");
  await guestWrites(t, a, guest, 50);
  {
    await using disk = await TrackedDisk.open({ path: a });
    await applyDelta(disk, replica);
    t.ok((await readFile(replica)).equals(guest.content));
  }
  await exportDiskState({ bitmapPath: `${a}.tidemark`, statePath: `${a}.lost` });
  await rm(`${a}.lost`);
  const forced = await tidemark("disk", "take-back-state", a, "--force");
  t.equal(forced.exitCode, 0, forced.stderr);
  await using disk = await TrackedDisk.open({ path: a });
  t.same(disk.targets()[0]?.suspicionCauses, ["taken over by force"]);
  t.equal(disk.targets()[0]?.suspectBytes, SIZE);
});

void t.test(
  "a copy from before the last writes is found out where the samples show it",
  async (t) => {
    const { a, b } = await makeHosts(await scratchDirectory(t));
    await copyFile(a, b);
    const program = await track(t, a);
    const client = await connect(a);
    await client.write(0, Buffer.alloc(BLOCK, 1));
    client.close();
    await program.stop();
    await tidemark("disk", "export-state", a, `${b}.state`);
    const imported = await tidemark("disk", "import-state", `${b}.state`, b);
    t.match(imported.stdout, /not what was exported \(sampled content differs\)/);
    await using disk = await TrackedDisk.open({ path: b });
    t.equal(disk.targets()[0]?.suspectBytes, SIZE);
  },
);

void t.test("T40: a stopped host's disk is taken over, and its late writes fail", async (t) => {
  const { a: path, replica } = await makeHosts(await scratchDirectory(t));
  const guest = new Guest();
  const former = await track(t, path, "--shared");
  const formerGuest = await connect(path);
  await guest.write(formerGuest, 200);
  former.child.kill("SIGSTOP");

  const orderly = await tidemark("track", "--disk", path, "--socket", `${path}.2`, "--shared");
  t.match(orderly.stderr, /\[IN_USE\]/);
  const present = await RunningProgram.start(
    t,
    ["track", "--disk", path, "--socket", `${path}.2`, "--shared", "--take-over"],
    /Serving/,
  );
  const presentGuest = await NbdClient.connect(`nbd+unix:///?socket=${path}.2`);
  await guest.write(presentGuest, 100);
  // The first waits in the stopped process's socket.
  const late = formerGuest.write(0, Buffer.alloc(BLOCK, 0xee));
  former.child.kill("SIGCONT");
  await t.rejects(late, { code: "IO_ERROR" }, "the guest there gets an error");
  for (let at = 0; at < SIZE - BLOCK; at += 1 << 20) {
    const later = formerGuest.write(at, Buffer.alloc(BLOCK, 0xee));
    await t.rejects(later, { code: "IO_ERROR" }, "and another");
  }
  await guest.write(presentGuest, 100);
  formerGuest.close();
  presentGuest.close();
  await former.stop();
  t.equal((await present.stop()).exitCode, 0);

  await using disk = await TrackedDisk.open({ path, sharedStorage: {} });
  t.same(disk.ownership(), { epoch: 3, isFenced: false });
  await applyDelta(disk, replica);
  t.ok((await readFile(path)).equals(guest.content), "no late write reached the disk");
  t.ok((await readFile(replica)).equals(guest.content), "and no mark was lost");
});
