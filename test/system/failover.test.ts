/** Failovers between two real hosts, through the command line and NBD. */
import { randomBytes } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { BLOCK, contentOf, refused, said, stateIs, writeTo } from "../support/host-orders.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  lastErrorOf,
  type LoopbackHost,
  pointsOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

t.setTimeout(300_000);
const directory = await scratchDirectory(t);
const pair = await startPair(t, join(directory, "pair"));
const { primary, replica } = pair;
const primaryUrl = await primary.keepPort();

async function newVm(name: string): Promise<Guest> {
  const guest = await Guest.make(directory, name);
  await guest.enable(primary, pair.replicaUrl);
  await replicated(primary, name);
  return guest;
}

/** The VM is given back, and goes on where it was. */
async function isGivenBack(t: Test, guest: Guest): Promise<void> {
  t.match(await said(t, replica, "vm", "cancel-failover", "lost"), /^lost is given back/);
  t.equal((await replica.vm("lost")).role, "replica");
  t.match(await refused(t, replica, "vm", "cancel-failover", "lost"), /CONFLICT/);
  await primary.api.call("vmResume", {}, { vm: "lost" });
  await stateIs(primary, "lost", "replicating");
  await guest.write(7 * BLOCK, randomBytes(BLOCK));
  await replicated(primary, "lost");
  const mine = await contentOf(await primary.vm("lost"));
  t.ok(mine.equals(await contentOfPoint(replica, "lost")), "only what changed came");
  guest.disconnect();
}

/** Its primary lives. */
async function isAskedFirst(t: Test, failover: readonly string[]): Promise<void> {
  const alive = await refused(t, replica, ...failover);
  t.match(alive, /because its primary seems to live, it was in contact at .*would be lost/s);
  t.match(alive, /vm planned-failover lost. loses nothing.*--force.*CONFLICT/s);
  t.equal((await replica.vm("lost")).role, "replica", "nothing has happened");
}

/** Of disks that are the replica's to change by now. */
async function refusesChanges(t: Test, { name, diskPath }: Guest): Promise<void> {
  for (const change of [
    ["add", name, "--disk", diskPath],
    ["remove", name, "vda"],
  ]) {
    const why = await refused(t, primary, "vm", "disk", ...change);
    t.match(why, /because it was failed over, or is about to be.*CONFLICT/s);
  }
}

void t.test("an unplanned failover runs the VM, over restarts, and is cancelled", async (t) => {
  const guest = await newVm("lost");
  const [older] = await pointsOf(replica, "lost");
  const before = Buffer.from(guest.content);
  await guest.write(0, randomBytes(BLOCK));
  await replicated(primary, "lost");
  const pointsBefore = (await pointsOf(replica, "lost")).length;
  const number = String(older?.sequence);
  const failover = ["vm", "failover", "lost", "--point", number];
  await isAskedFirst(t, failover);
  const out = await said(t, replica, ...failover, "--force");
  t.match(out, /^lost runs here now, as generation 2:\n\nDISK +SIZE +REACHED AT\nvda/);
  t.match(await refused(t, replica, "vm", "failover", "lost"), /failed over .* already.*CONFLICT/s);
  t.match(await refused(t, replica, "vm", "delete-replica", "lost"), /IN_USE/);
  const promoted = await replica.vm("lost");
  t.match(promoted, { role: "primary", promotion: { cause: "unplanned-failover" } });
  t.ok((await contentOf(promoted)).equals(before), "from the point that was chosen");

  // T40: the old primary lives, and its guest writes on.
  await guest.write(BLOCK, randomBytes(BLOCK)).catch(() => undefined);
  const withheld = await stateIs(primary, "lost", "failed-over");
  t.equal(withheld.disks[0]?.uri, null);
  await refusesChanges(t, guest);
  await t.rejects(NbdClient.connect(guest.uri), "its guests are kept away");
  guest.disconnect();
  t.equal((await pointsOf(replica, "lost")).length, pointsBefore, "no point came from it");

  const data = randomBytes(BLOCK);
  await writeTo(promoted, 5, data);
  await replica.stop("SIGKILL");
  await replica.start();
  await primary.stop("SIGKILL");
  await primary.start();
  data.copy(before, 5 * BLOCK);
  t.ok((await contentOf(await replica.vm("lost"))).equals(before), "also after a kill");
  await t.rejects(NbdClient.connect(guest.uri), "and there they stay away");
  t.equal((await pointsOf(replica, "lost")).length, pointsBefore, "the points are what they were");

  await isGivenBack(t, guest);
});

void t.test("G7: a planned failover loses nothing", async (t) => {
  const guest = await newVm("moves");
  const data = randomBytes(BLOCK);
  await guest.write(3 * BLOCK, data);
  const inUse = await refused(t, primary, "vm", "planned-failover", "moves");
  t.match(inUse, /because moves has vda open.*Shut the VM down.*IN_USE/s);
  guest.disconnect();
  await eventually("the end of the connection", async () => {
    const handOver = ["vm", "planned-failover", "moves"];
    const { exitCode } = await tidemark("--dir", primary.paths.directory, ...handOver);
    return exitCode === 0;
  });
  t.match(await primary.vm("moves"), { relationship: { state: "failed-over" } });
  const promoted = await eventually("the VM at the replica", async () => {
    const status = await replica.vm("moves");
    return status.role === "primary" && status;
  });
  t.match(promoted, { promotion: { cause: "planned-failover", generationNumber: 2 } });
  t.ok((await contentOf(promoted)).equals(guest.content), "byte for byte");
  t.match(await refused(t, primary, "vm", "cancel-failover", "moves"), /its state is failed-over/);
  t.match(await said(t, primary, "vm", "status", "moves"), /The replica has taken over/);
  t.match(await said(t, replica, "vm", "status", "moves"), /Runs here since a planned failover/);
});

function reverse(vm: string): readonly string[] {
  return ["vm", "reverse", vm, "--to", primaryUrl, "--every", "1s"];
}

async function isNotCancelled(t: Test, vm: string): Promise<void> {
  t.match(await refused(t, replica, "vm", "cancel-failover", vm), /replicated from here by now/);
}

/** The old primary follows, and its disk as it stood is its first point. */
async function follows(t: Test, vm: string, asItStood: Buffer): Promise<void> {
  t.match(await refused(t, replica, ...reverse(vm)), /ALREADY_EXISTS/);
  await writeTo(await replica.vm(vm), 11);
  await replicated(replica, vm);
  t.equal((await primary.vm(vm)).role, "replica");
  const [branch] = await primary.api.call("pointList", {}, { vm });
  t.match(branch, { isPinned: true, label: "as this host left it, generation 1" });
  const here = await contentOf(await replica.vm(vm));
  t.ok((await contentOfPoint(primary, vm)).equals(here), "byte for byte");
  t.ok((await contentOfPoint(primary, vm, branch?.pointId)).equals(asItStood));
}

void t.test("T39: after a planned failover the replication is reversed", async (t) => {
  const asItStood = await contentOf(await replica.vm("moves"));
  t.match(await said(t, replica, ...reverse("moves")), /is replicated to https:.* from now on/);
  const { message } = await lastErrorOf(replica, "moves", "FORBIDDEN");
  t.match(message, /accepts no replicas/);
  await said(t, primary, "host", "accept-replicas", "on");
  await said(t, replica, "vm", "resume", "moves");
  await stateIs(replica, "moves", "replicating");
  await isNotCancelled(t, "moves");
  await follows(t, "moves", asItStood);
  const { relationship } = await replica.vm("moves");
  t.equal(relationship?.lastHealing, null, "nothing had to be compared");
});

/** Its disks are plain files, and it went on all the while. */
async function staysOn(t: Test, host: LoopbackHost, vm: string): Promise<Buffer> {
  const commit = ["vm", "commit-failover", vm];
  t.match(await said(t, host, ...commit), /gives up \d+ recovery points .*cannot be undone/s);
  await said(t, host, ...commit, "--yes");
  await writeTo(await host.vm(vm), 13);
  await eventually("plain disks", async () => (await host.vm(vm)).promotion === null);
  t.match(await refused(t, host, "vm", "cancel-failover", vm), /CONFLICT|NOT_FOUND/);
  const content = await contentOf(await host.vm(vm));
  await host.stop("SIGKILL");
  await host.start();
  const { disks } = await host.vm(vm);
  t.ok((await contentOf(await host.vm(vm))).equals(content), "after a kill");
  t.ok((await readFile(disks[0]?.path ?? "")).equals(content), "and it is the file");
  return content;
}

async function isHandedBack(t: Test, from: LoopbackHost, to: LoopbackHost, vm: string) {
  await said(t, from, "vm", "planned-failover", vm);
  return eventually(`${vm} there`, async () => {
    const status = await to.vm(vm);
    return status.role === "primary" && status;
  });
}

void t.test("T39: there and back again, and once more, without a full copy", async (t) => {
  const content = await staysOn(t, replica, "moves");
  await stateIs(replica, "moves", "replicating");
  const back = await isHandedBack(t, replica, primary, "moves");
  t.match(back, { promotion: { cause: "planned-failover", generationNumber: 3 } });
  t.ok((await contentOf(back)).equals(content), "byte for byte");
  const here = await staysOn(t, primary, "moves");
  t.ok(here.length === content.length);
  t.equal((await primary.vm("moves")).disks[0]?.path, join(directory, "moves.raw"), "its own file");
  await said(t, primary, "vm", "reverse", "moves", "--to", pair.replicaUrl, "--every", "1s");
  await stateIs(primary, "moves", "replicating");
  await writeTo(await primary.vm("moves"), 3);
  await replicated(primary, "moves");
  const now = await contentOf(await primary.vm("moves"));
  t.ok((await contentOfPoint(replica, "moves")).equals(now));
  const { relationship } = await primary.vm("moves");
  t.ok((relationship?.lastCycle?.changedBytes ?? 0) < 10 * BLOCK, "what changed, and no more");
  await isHandedBack(t, primary, replica, "moves");
});

void t.test("what only the old primary has is kept when it becomes the replica", async (t) => {
  const guest = await newVm("late");
  const [older] = await pointsOf(replica, "late");
  await guest.write(7 * BLOCK, randomBytes(BLOCK));
  await replicated(primary, "late");
  // So that it does not learn of the failover before its guest's last write.
  await said(t, primary, "vm", "suspend", "late");
  const number = String(older?.sequence);
  await said(t, replica, "vm", "failover", "late", "--force", "--point", number);
  await guest.write(9 * BLOCK, randomBytes(BLOCK));
  await said(t, primary, "vm", "resume", "late");
  await stateIs(primary, "late", "failed-over");
  guest.disconnect();
  await primary.stop("SIGKILL");
  await primary.start();
  await said(t, primary, "host", "accept-replicas", "on");
  await said(t, replica, ...reverse("late"));
  await stateIs(replica, "late", "replicating");
  await isNotCancelled(t, "late");
  await follows(t, "late", guest.content);
  const { relationship } = await replica.vm("late");
  t.equal(relationship?.lastHealing, null, "what differs was known, and nothing compared");
});

void t.test("T16: an old primary's disk that was written out of sight is compared", async (t) => {
  const guest = await newVm("seen");
  await said(t, replica, "vm", "failover", "seen", "--force");
  await primary.api.call("vmResume", {}, { vm: "seen" });
  await stateIs(primary, "seen", "failed-over");
  await primary.stop();
  await using image = await open(guest.diskPath, "r+");
  randomBytes(BLOCK).copy(guest.content, 21 * BLOCK);
  await image.write(guest.content, 21 * BLOCK, BLOCK, 21 * BLOCK);
  await primary.start();
  await said(t, replica, ...reverse("seen"));
  await stateIs(replica, "seen", "replicating");
  await follows(t, "seen", guest.content);
  const { relationship } = await replica.vm("seen");
  t.match(relationship?.lastHealing, { comparedBytes: guest.content.length });
  t.ok((relationship?.lastHealing?.differingBytes ?? 0) <= 2 * BLOCK);
});

void t.test("T40: a primary that returns after all was completed learns of it, too", async (t) => {
  const guest = await newVm("gone");
  await primary.stop("SIGKILL");
  guest.disconnect();
  await said(t, replica, "vm", "failover", "gone", "--force");
  const asItStood = Buffer.from(guest.content);
  await staysOn(t, replica, "gone");
  await primary.start();
  const withheld = await stateIs(primary, "gone", "failed-over");
  t.equal(withheld.disks[0]?.uri, null, "its guests are kept away");
  t.notMatch(await replica.vm("gone"), { role: "replica" });
  await said(t, replica, ...reverse("gone"));
  await stateIs(replica, "gone", "replicating");
  await follows(t, "gone", asItStood);
});

void t.test("a planned failover is not begun while the replica does not answer", async (t) => {
  const guest = await newVm("stays");
  await replica.stop();
  const begun = primary.api.call("plannedFailover", { force: true }, { vm: "stays" });
  await t.rejects(begun, { code: "UNREACHABLE" });
  await guest.write(2 * BLOCK, randomBytes(BLOCK));
  await replica.start();
  await replicated(primary, "stays");
  t.ok((await contentOfPoint(replica, "stays")).equals(guest.content));
  guest.disconnect();
});

void t.test("T38: its old primary being a replica now, the failover stays", async (t) => {
  await said(t, replica, "vm", "remove", "seen");
  await replica.stop("SIGKILL");
  await replica.start();
  const why = await refused(t, replica, "vm", "cancel-failover", "seen");
  t.match(why, /may have given its disks up/);
  t.equal((await replica.vm("seen")).role, "primary");
});
