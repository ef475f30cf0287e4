/** Three real hosts: what the replica has arrives at the third one, through crashes and failovers. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import t, { type Test } from "tap";
import {
  BLOCK,
  contentOf,
  handedOver,
  refused,
  runsOn,
  said,
  stateIs,
  writeTo,
} from "../support/host-orders.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  lastErrorOf,
  pointsOf,
  replicated,
  startTrio,
} from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";

t.setTimeout(300_000);
const directory = await scratchDirectory(t);
const trio = await startTrio(t, join(directory, "trio"));
const { primary, replica, third, primaryUrl, replicaUrl, thirdUrl } = trio;
const guest = await Guest.make(directory, "web");
/** What the VM held at each cut that the replica has had, by the number of the cut. */
const cuts = new Map<number, Buffer>();

/** The guest is quiet until the replica has it. */
async function writeAndNote(): Promise<void> {
  const block = Math.floor(Math.random() * (guest.content.length / BLOCK));
  await guest.write(block * BLOCK, randomBytes(BLOCK));
  await replicated(primary, "web");
  const head = (await replica.vm("web")).replica?.head;
  cuts.set(head?.cutSequence ?? 0, Buffer.from(guest.content));
}

/** The third host's newest point is that of the replica. */
async function arrived(): Promise<void> {
  const wanted = (await replica.vm("web")).replica?.head;
  await eventually(`cut ${wanted?.cutSequence} at the third host`, async () => {
    const found = (await third.vm("web").catch(() => null))?.replica?.head;
    return found?.takenAtMs === wanted?.takenAtMs;
  });
}

async function holdsWhatTheVmHeld(t: Test): Promise<void> {
  for (const { pointId, cutSequence, sequence } of await pointsOf(third, "web")) {
    const expected = cuts.get(cutSequence);
    if (expected === undefined) continue;
    const found = await contentOfPoint(third, "web", pointId);
    t.ok(found.equals(expected), `point ${sequence}, of cut ${cutSequence}`);
  }
}

void t.test("a replica is extended to a third host, and its status shows both", async (t) => {
  await guest.enable(primary, replicaUrl);
  await replicated(primary, "web");
  const extend = ["vm", "extend", "web", "--to", thirdUrl, "--every", "1s"];
  t.match(await refused(t, primary, ...extend), /this host is its primary/);
  t.match(await refused(t, replica, "vm", "extend", "web", "--to", replicaUrl), /keeps a replica/);
  t.match(await said(t, replica, ...extend), /^web is replicated on to https:/);
  await stateIs(replica, "web", "replicating");
  await writeAndNote();
  await arrived();
  await holdsWhatTheVmHeld(t);
  const status = await said(t, replica, "vm", "status", "web");
  t.match(status, /web +replica, extended +replicating/);
  t.match(status, /recovery points.*Replicated on from here:\nReplica https:.*every 1/s);
  t.match(await refused(t, replica, ...extend), /extended to https:.* already.*ALREADY_EXISTS/s);
  t.match(await refused(t, replica, "vm", "delete-replica", "web"), /replicated on from here/);
});

void t.test("kills of the replica's host and points given up lose nothing", async (t) => {
  for (let round = 0; round < 2; round += 1) {
    await writeAndNote();
    if (round % 2 === 0) await arrived();
    await writeAndNote();
    const points = await pointsOf(replica, "web");
    for (const { sequence } of points.slice(0, -1)) {
      const deleting = { vm: "web", point: String(sequence) };
      // What is on its way stays; so does what went meanwhile.
      await replica.api.call("pointDelete", {}, deleting).catch(() => undefined);
    }
    await guest.write(round * BLOCK, randomBytes(BLOCK));
    await replica.stop("SIGKILL");
    await replica.start();
  }
  await writeAndNote();
  await arrived();
  const { relationship } = await replica.vm("web");
  t.equal(relationship?.suspectBytes, 0);
  t.equal(relationship?.lastHealing, null, "nothing had to be compared");
  await holdsWhatTheVmHeld(t);
});

void t.test(
  "its replication is suspended, changed and resumed by the commands that exist",
  async (t) => {
    await said(t, replica, "vm", "suspend", "web");
    t.match(await replica.vm("web"), { role: "replica", relationship: { state: "suspended" } });
    const settings = await said(t, replica, "vm", "set", "web", "--compression", "3");
    t.match(settings, /Compression level 3/);
    await writeAndNote();
    await said(t, replica, "vm", "resume", "web");
    await stateIs(replica, "web", "replicating");
    await arrived();
    await holdsWhatTheVmHeld(t);
    t.match(await said(t, replica, "vm", "statistics", "web"), /web/);
  },
);

void t.test("T40: a failover at the third host fences the replica's relationship", async (t) => {
  await said(t, third, "vm", "failover", "web", "--force");
  await stateIs(replica, "web", "failed-over");
  const before = (await pointsOf(third, "web")).length;
  await writeAndNote();
  t.equal(
    (await pointsOf(third, "web")).length,
    before,
    "the replica goes on, and nothing arrives",
  );
  await said(t, third, "vm", "cancel-failover", "web");
  await said(t, replica, "vm", "resume", "web");
  await stateIs(replica, "web", "replicating");
  await writeAndNote();
  await arrived();
  await holdsWhatTheVmHeld(t);
});

void t.test(
  "T39: a failover to the replica goes on to the third host without a full copy",
  async (t) => {
    guest.disconnect();
    await said(t, replica, "vm", "failover", "web", "--force");
    const promoted = await stateIs(replica, "web", "replicating");
    t.equal(promoted.role, "primary");
    await writeTo(promoted, 5);
    const { relationship } = await replicated(replica, "web");
    t.ok((await contentOfPoint(third, "web")).equals(await contentOf(promoted)), "byte for byte");
    t.ok((relationship?.lastHealing?.differingBytes ?? 0) <= 8 * BLOCK, "compared, not copied");

    await replica.stop("SIGKILL");
    await replica.start();
    await replicated(replica, "web");
    await said(t, replica, "vm", "cancel-failover", "web");
    t.match(await replica.vm("web"), { role: "replica", relationship: {} });
    await primary.api.call("vmResume", {}, { vm: "web" });
    await stateIs(primary, "web", "replicating");
    await writeAndNote();
    await arrived();
    t.ok((await contentOfPoint(third, "web")).equals(guest.content), "the primary's again");
    guest.disconnect();
  },
);

void t.test("a disk that grows is followed", async (t) => {
  const sizeBytes = guest.content.length + 16 * BLOCK;
  await primary.api.call("diskResize", { sizeBytes }, { vm: "web", disk: "vda" });
  await replicated(primary, "web");
  await arrived();
  const [here, there] = [await contentOfPoint(replica, "web"), await contentOfPoint(third, "web")];
  t.equal(there.length, sizeBytes);
  t.ok(there.equals(here), "byte for byte");
});

void t.test("it is removed by itself, and a circle is refused", async (t) => {
  await said(t, replica, "vm", "remove", "web");
  t.match(await replica.vm("web"), { role: "replica", relationship: null });
  await said(t, primary, "host", "accept-replicas", "on");
  await said(t, replica, "vm", "extend", "web", "--to", primaryUrl);
  const { message } = await lastErrorOf(replica, "web", "CONFLICT");
  t.match(message, /this host has the VM itself/);
  await said(t, replica, "vm", "remove", "web");
  await replicated(primary, "web");
});

void t.test("G7: to the replica and back, the third host goes on by what differs", async (t) => {
  const extend = ["vm", "extend", "web", "--to", thirdUrl, "--every", "1s"];
  t.match(await refused(t, replica, ...extend), /--take-over/);
  await said(t, replica, ...extend, "--take-over");
  await stateIs(replica, "web", "replicating");
  guest.disconnect();
  const before = await contentOf(await primary.vm("web"));
  await handedOver(primary, "web");
  await runsOn(replica, "web");
  await said(t, replica, "vm", "reverse", "web", "--to", primaryUrl, "--every", "1s");
  const [further] = (await replica.vm("web")).targets;
  t.equal(further?.relationship.settings.replicaUrl, thirdUrl, "one target of several");
  await replicated(replica, "web");
  await replicated(replica, `web@${further?.name}`);
  t.ok((await contentOfPoint(third, "web")).equals(before), "byte for byte");
  await said(t, replica, "vm", "commit-failover", "web", "--yes");
  await eventually("plain disks", async () => (await replica.vm("web")).promotion === null);
  await handedOver(replica, "web");
  const back = await runsOn(primary, "web");
  await said(t, primary, "vm", "reverse", "web", "--to", replicaUrl, "--every", "1s");
  await replicated(primary, "web");
  const pointCount = (await pointsOf(third, "web")).length;
  await said(t, replica, ...extend, "--take-over");
  await stateIs(replica, "web", "replicating");
  await writeTo(back, 3);
  await replicated(primary, "web");
  await arrived();
  t.ok((await contentOfPoint(third, "web")).equals(await contentOf(back)), "extended again");
  t.ok((await pointsOf(third, "web")).length > pointCount, "its points stay");
  await said(t, replica, "vm", "remove", "web");
});

void t.test("G7: from the replica it may be handed on to the third host", async (t) => {
  await said(t, third, "vm", "delete-replica", "web");
  await said(t, replica, "vm", "extend", "web", "--to", thirdUrl, "--every", "1s");
  await stateIs(replica, "web", "replicating");
  await said(t, replica, "vm", "failover", "web", "--force");
  const promoted = await stateIs(replica, "web", "replicating");
  await writeTo(promoted, 7);
  const content = await contentOf(promoted);
  await handedOver(replica, "web");
  const there = await runsOn(third, "web");
  t.ok((await contentOf(there)).equals(content), "byte for byte");
  t.match(await refused(t, replica, "vm", "cancel-failover", "web"), /its state is failed-over/);
  t.equal((await replica.vm("web")).disks[0]?.uri, null, "it is the third host's");
  await said(t, replica, "vm", "remove", "web");
  t.ok((await replica.vm("web")).disks[0]?.uri, "by explicit order it is served here, too");
});
