/** Three real hosts: one VM replicated to two of them, through crashes, failovers and back. */
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
  pointsOf,
  replicated,
  startTrio,
} from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

t.setTimeout(300_000);
const directory = await scratchDirectory(t);
const trio = await startTrio(t, join(directory, "trio"));
const { primary, replica, third, primaryUrl, replicaUrl, thirdUrl } = trio;
const guest = await Guest.make(directory, "web");

/** Both replicas' newest points, byte for byte; the guest is quiet. */
async function bothHoldIt(t: Test, content: Buffer): Promise<void> {
  await Promise.all([replicated(primary, "web"), replicated(primary, "web@third")]);
  for (const host of [replica, third]) {
    t.ok((await contentOfPoint(host, "web")).equals(content), "byte for byte");
  }
}

const writeSome = async () => {
  const block = Math.floor(Math.random() * (guest.content.length / BLOCK));
  await guest.write(block * BLOCK, randomBytes(BLOCK));
};

void t.test("a VM is replicated to two hosts, each in its own rhythm", async (t) => {
  await guest.enable(primary, replicaUrl);
  const add = ["vm", "add-target", "web", "--to", thirdUrl];
  t.match(
    await refused(t, primary, "vm", "add-target", "web", "--to", replicaUrl),
    /another of its targets is that host/,
  );
  t.match(await refused(t, primary, ...add, "--take-over"), /keeps none/);
  t.match(await refused(t, replica, ...add), /Cannot find VM|primary/);
  const added = await said(t, primary, ...add, "--name", "third", "--every", "1s");
  t.match(added, /^web is replicated to https:.* too from now on.*web@third/);
  t.match(await refused(t, primary, ...add, "--name", "other"), /another of its targets/);
  await stateIs(primary, "web@third", "replicating");
  for (let round = 0; round < 5; round += 1) await writeSome();
  await bothHoldIt(t, guest.content);
  const listed = await said(t, primary, "vm", "status");
  t.match(listed, /^web +primary +replicating.*\nweb@third +primary +replicating/m);
  t.match(await said(t, primary, "vm", "status", "web"), /Also replicated, as web@third:\nReplica/);
});

void t.test("each target has its own settings, state and statistics", async (t) => {
  await said(t, primary, "vm", "set", "web@third", "--compression", "3");
  t.equal((await primary.vm("web@third")).relationship?.settings.compression, 3);
  t.equal((await primary.vm("web")).relationship?.settings.compression, 1);
  await said(t, primary, "vm", "suspend", "web@third");
  t.equal((await primary.vm("web")).relationship?.state, "replicating");
  await writeSome();
  await replicated(primary, "web");
  t.ok(((await primary.vm("web@third")).relationship?.pendingBytes ?? 0) >= BLOCK);
  await said(t, primary, "vm", "resume", "web@third");
  await bothHoldIt(t, guest.content);
  await said(t, primary, "vm", "suspend", "web");
  t.equal((await primary.vm("web@third")).relationship?.state, "suspended", "the VM's are all");
  await said(t, primary, "vm", "resume", "web");
  t.match(await said(t, primary, "vm", "statistics", "web@third"), /web@third/);
  const { current } = await primary.api.call("vmStatistics", {}, { vm: "web@third" });
  t.ok((current?.cycleCount ?? 0) > 0);
  const scripts = ["--freeze-script", "/bin/true", "--thaw-script", "/bin/true"];
  const atRest = ["vm", "set", "web@third", "--app-consistent", "1h", ...scripts];
  t.match(await refused(t, primary, ...atRest), /only the VM's first target/);
  t.match(await refused(t, primary, "vm", "status", "web@nobody"), /Cannot find target nobody/);
  await said(t, primary, "vm", "compare", "web@third");
});

void t.test("one host's standstill and kills of the primary cost the other nothing", async (t) => {
  await third.stop("SIGKILL");
  await writeSome();
  await replicated(primary, "web");
  guest.disconnect();
  await primary.stop("SIGKILL");
  await primary.start();
  await eventually("web served", async () => (await primary.vm("web")).disks[0]?.uri);
  await writeSome();
  await third.start();
  await said(t, primary, "vm", "resume", "web@third");
  await bothHoldIt(t, guest.content);
});

void t.test("a disk that grows is followed by both", async (t) => {
  const sizeBytes = guest.content.length + 16 * BLOCK;
  await primary.api.call("diskResize", { sizeBytes }, { vm: "web", disk: "vda" });
  await bothHoldIt(t, Buffer.concat([guest.content, Buffer.alloc(16 * BLOCK)]));
});

void t.test("a replica that is ahead, of a disk that has grown, is taken over", async (t) => {
  await said(t, primary, "vm", "suspend", "--replica", replicaUrl);
  t.equal((await primary.vm("web@third")).relationship?.state, "replicating", "of that one only");
  const sizeBytes = guest.content.length + 32 * BLOCK;
  await primary.api.call("diskResize", { sizeBytes }, { vm: "web", disk: "vda" });
  await writeTo(await primary.vm("web"), sizeBytes / BLOCK - 1);
  await replicated(primary, "web@third");
  const ahead = await contentOfPoint(third, "web");
  t.equal(ahead.length, sizeBytes);

  await said(t, replica, "vm", "failover", "web", "--force");
  const there = await runsOn(replica, "web");
  await writeTo(there, 1);
  const take = ["vm", "add-target", "web", "--to", thirdUrl, "--take-over", "--name", "third"];
  await said(t, replica, ...take, "--every", "1s");
  await replicated(replica, "web@third");
  t.ok((await contentOfPoint(third, "web")).equals(await contentOf(there)), "byte for byte");
  const contents = [];
  for (const { pointId } of (await pointsOf(third, "web")).slice(-4)) {
    contents.push(await contentOfPoint(third, "web", pointId));
  }
  t.ok(
    contents.some((content) => content.equals(ahead)),
    "what only the other side wrote stays",
  );

  await said(t, replica, "vm", "remove", "web@third");
  await said(t, replica, "vm", "cancel-failover", "web", "--force");
  await said(t, primary, "vm", "resume", "web");
  await said(t, primary, "vm", "remove", "web@third");
  await said(t, primary, ...take, "--every", "1s");
  await bothHoldIt(t, ahead);
});

void t.test("T38: it is handed over to one host at a time", async (t) => {
  guest.disconnect();
  const orders = ["web", "web@third"].map((vm) =>
    tidemark("--dir", primary.paths.directory, "vm", "planned-failover", vm),
  );
  const codes = (await Promise.all(orders)).map(({ exitCode }) => exitCode);
  t.same(new Set(codes), new Set([0, 1]), "one of them");
  const [winner, loser] = codes[0] === 0 ? [replica, third] : [third, replica];
  await runsOn(winner, "web");
  t.equal((await loser.vm("web")).role, "replica");
  const other = codes[0] === 0 ? "web@third" : "web";
  t.match(await refused(t, primary, "vm", "planned-failover", other), /to another of its targets/);
  await said(t, winner, "vm", "cancel-failover", "web");
  await said(t, primary, "vm", "resume", "web");
  await runsOn(primary, "web");
  await Promise.all(["web", "web@third"].map((vm) => stateIs(primary, vm, "replicating")));
});

void t.test(
  "G7: through a failover to one host and back, the other goes on by what differs",
  async (t) => {
    await said(t, primary, "host", "accept-replicas", "on");
    const before = await contentOf(await runsOn(primary, "web"));
    await handedOver(primary, "web");
    const there = await runsOn(replica, "web");
    t.ok((await contentOf(there)).equals(before), "nothing was lost");
    await writeTo(there, 3);
    await said(t, replica, "vm", "reverse", "web", "--to", primaryUrl, "--every", "1s");
    t.match(
      await refused(t, replica, "vm", "add-target", "web", "--to", thirdUrl),
      /keeps a replica of it already.*--take-over/s,
    );
    const pointCount = (await pointsOf(third, "web")).length;
    const take = ["vm", "add-target", "web", "--to", thirdUrl, "--take-over"];
    await said(t, replica, ...take, "--name", "third", "--every", "1s");
    await replicated(replica, "web@third");
    await replicated(replica, "web");
    const { relationship } = await replica.vm("web@third");
    t.ok((relationship?.lastHealing?.differingBytes ?? 0) <= 8 * BLOCK, "compared, not copied");
    t.ok((await pointsOf(third, "web")).length > pointCount, "its points stay");
    const content = await contentOf(there);
    for (const host of [primary, third]) {
      t.ok((await contentOfPoint(host, "web")).equals(content), "byte for byte");
    }
    t.match(
      await refused(t, replica, "vm", "cancel-failover", "web", "--force"),
      /replicated from here/,
    );

    await said(t, replica, "vm", "commit-failover", "web", "--yes");
    await eventually("plain disks", async () => (await replica.vm("web")).promotion === null);
    await handedOver(replica, "web");
    const back = await runsOn(primary, "web");
    t.ok((await contentOf(back)).equals(content), "and back");
    await said(t, primary, "vm", "reverse", "web", "--to", replicaUrl, "--every", "1s");
    await said(t, primary, ...take, "--name", "third", "--every", "1s");
    await writeTo(back, 5);
    await bothHoldIt(t, await contentOf(back));
  },
);

void t.test("T40: taken over by another host it takes nothing of the one before", async (t) => {
  guest.disconnect();
  await said(t, replica, "vm", "failover", "web", "--force");
  const take = ["vm", "add-target", "web", "--to", thirdUrl, "--take-over", "--name", "third"];
  await replica.stop("SIGKILL");
  await replica.start({ failpoint: "taken-over:1" });
  const place = ["--dir", replica.paths.directory];
  t.equal((await tidemark(...place, ...take)).exitCode, 1, "killed between the two hosts' notes");
  await replica.stop();
  await replica.start();
  await said(t, replica, ...take, "--every", "1s");
  await replicated(replica, "web@third");
  const { lastError } = (await stateIs(primary, "web@third", "error")).relationship ?? {};
  t.match(lastError, { code: "FENCED", message: /another host has become/ });
  await stateIs(primary, "web", "failed-over");
  t.equal((await primary.vm("web")).disks[0]?.uri, null, "its guest is kept away");
  t.match(
    await refused(t, replica, "vm", "cancel-failover", "web", "--force"),
    /replicated from here to third.*vm remove web@third/s,
  );
  await said(t, replica, "vm", "remove", "web@third");
  await said(t, replica, "vm", "cancel-failover", "web");
  await said(t, primary, "vm", "resume", "web");
  const served = await runsOn(primary, "web");
  t.match(served, { relationship: { state: "replicating" } });
  await said(t, primary, "vm", "remove", "web@third");
  await said(t, primary, ...take, "--every", "1s");
  await writeTo(served, 9);
  await bothHoldIt(t, await contentOf(served));
});

void t.test("T44: a replica whose host has the VM is not taken over", async (t) => {
  await said(t, third, "vm", "failover", "web", "--force");
  await stateIs(primary, "web@third", "failed-over");
  t.equal((await primary.vm("web")).disks[0]?.uri, null, "the guest is kept away");
  t.equal((await primary.vm("web")).relationship?.state, "replicating", "the other goes on");
  const take = ["vm", "add-target", "web", "--to", thirdUrl, "--take-over", "--name", "third"];
  await said(t, replica, "vm", "failover", "web", "--force");
  t.match(await refused(t, replica, ...take), /failed over to its host/);
  await said(t, replica, "vm", "cancel-failover", "web");
  await said(t, primary, "vm", "resume", "web");
  await stateIs(primary, "web", "replicating");
  t.equal((await primary.vm("web")).disks[0]?.uri, null, "one that is back is not enough");
  await said(t, primary, "vm", "remove", "web@third");
  t.ok((await runsOn(primary, "web")).disks[0]?.uri, "by explicit order it is served again");
});

void t.test("a target is removed by itself, and a VM with all of them", async (t) => {
  await said(t, third, "vm", "cancel-failover", "web", "--force");
  const take = ["vm", "add-target", "web", "--to", thirdUrl, "--take-over", "--name", "third"];
  await said(t, primary, ...take, "--every", "1s");
  await stateIs(primary, "web@third", "replicating");
  t.match(await said(t, primary, "vm", "remove", "web@third"), /Removed web@third/);
  t.match(await primary.vm("web"), { targets: [], relationship: { state: "replicating" } });
  await said(t, primary, ...take, "--every", "1s");
  t.match(await said(t, primary, "vm", "remove", "web"), /Removed web\.\nRemoved web@third\./);
  // It came back here by a failover that was not completed: its disks are nowhere else.
  t.match(await primary.vm("web"), { relationship: null, targets: [] });
  t.match(await said(t, primary, "vm", "status", "web"), /not replicated/);
});
