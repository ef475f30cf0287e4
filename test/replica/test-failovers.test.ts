/** Test failovers: how long they last, what they may take, and what is left of them. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import type { TestFailoverReport, TestFailoverTerms } from "#lib/model/test-failover.js";
import { PointExports } from "#lib/replica/point-exports.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { TestFailovers } from "#lib/replica/test-failovers.js";
import { Verifications } from "#lib/replica/verifications.js";
import { systemClock } from "#lib/replication/system-clock.js";
import { binding } from "#lib/tracking/binding.js";
import { VirtualClock } from "../replication/simulation/virtual-clock.js";
import { until } from "../support/until.js";
import { keepNewest } from "./support/keep-newest.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { NbdClient } from "./support/nbd-client.js";
import { GRANULARITY, readBlocks, Scene } from "./support/scene.js";

const HOUR_MS = 3_600_000;
const FOREVER: TestFailoverTerms = { forMs: null, scratchLimitBytes: null };
const forMs = (duration: number): TestFailoverTerms => ({ ...FOREVER, forMs: duration });

interface Ended extends TestFailoverReport {
  readonly vmId: string;
}

async function start(t: Test, freeSpaceFloorBytes = 0) {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, { 0: { 0: 11, 1: 12 }, 1: { 0: 13 } });
  const second = await scene.point(store, first.pointId, { 0: { 1: 22 } });
  return {
    root,
    scene,
    store,
    first,
    second,
    ...(await openTests(t, store, root, freeSpaceFloorBytes)),
  };
}

async function openTests(t: Test, store: ReplicaStore, root: string, freeSpaceFloorBytes = 0) {
  const scratchDirectory = join(root, "scratch");
  const exports = await PointExports.open({
    store,
    socketDirectory: join(root, "sockets"),
    scratchDirectory,
    freeSpaceFloorBytes,
  });
  const verifications = new Verifications({ store, clock: systemClock, bytesPerSecond: 1 << 30 });
  const [clock, ended, warnings] = [new VirtualClock(), [] as Ended[], [] as string[]];
  const tests = new TestFailovers({
    exports,
    verifications,
    clock,
    onEnd: async (vmId, report) => void ended.push({ ...report, vmId }),
    onWarning: (message) => warnings.push(message),
  });
  t.teardown(async () => {
    await tests.close();
    await verifications.close();
    await exports.close();
  });
  const scratches = () => readdir(scratchDirectory);
  return { exports, tests, clock, ended, warnings, scratches };
}

const socketOf = (uri = "") => new URL(uri).searchParams.get("socket") ?? "";
const FULL = Buffer.alloc(GRANULARITY, 0x99);

void t.test("T41: a test failover ends by itself, whatever the wall clock says", async (t) => {
  const { scene, first, second, tests, clock, ended, scratches } = await start(t);
  const { vmId } = scene.vm;
  const short = await tests.open({ vmId, pointId: first.pointId }, forMs(HOUR_MS), false);
  const long = await tests.open({ vmId, pointId: second.pointId }, forMs(3 * HOUR_MS), false);
  const forever = await tests.open({ vmId, pointId: second.pointId }, FOREVER, false);
  t.equal(short.test.untilMs, clock.nowMs() + HOUR_MS);
  t.equal(forever.test.untilMs, null);
  await using client = await NbdClient.connect(socketOf(short.disks[0]?.uri), "vda");
  await client.write(0, FULL);
  clock.setWallClock(30 * 24 * HOUR_MS);
  await clock.run(HOUR_MS - 1);
  t.equal((await tests.list()).length, 3, "the wall clock's jump ended none");
  await clock.run(1);
  await until("its end", 10_000, () => ended[0] ?? null);
  t.match(ended[0], { outcome: "time limit", pointSequence: 1, vmId, scratchBytes: GRANULARITY });
  t.equal((await scratches()).length, 2, "what was written is dropped");
  await t.rejects(client.read(0, GRANULARITY), "its clients are cut off");
  await clock.run(10 * HOUR_MS);
  await until("the other's end", 10_000, () => ended[1] ?? null);
  t.equal(ended[1]?.exportId, long.exportId);
  t.same(
    (await tests.list()).map(({ exportId, test }) => [exportId, test.untilMs]),
    [[forever.exportId, null]],
  );
});

void t.test("its end is put to another time, and nothing else is", async (t) => {
  const { scene, first, tests, clock, ended } = await start(t);
  const request = { vmId: scene.vm.vmId, pointId: first.pointId };
  const { exportId } = await tests.open(request, forMs(HOUR_MS), false);
  await tests.prolong(exportId, { byMs: 2 * HOUR_MS });
  await clock.run(3 * HOUR_MS - 1);
  t.equal(ended.length, 0);
  await tests.prolong(exportId, { untilMs: clock.nowMs() + 500 });
  await clock.run(499);
  t.equal(ended.length, 0);
  await tests.prolong(exportId, { untilMs: null });
  await clock.run(10 * HOUR_MS);
  t.equal((await tests.list()).length, 1);
  await clock.run(5000);
  await tests.prolong(exportId, { untilMs: clock.nowMs() + 10 });
  await clock.run(10);
  await until("its end", 10_000, () => ended[0] ?? null);
  await t.rejects(tests.prolong(exportId, { byMs: 1 }), { code: "NOT_FOUND" });
  await t.rejects(tests.end(exportId), { code: "NOT_FOUND" });
});

void t.test(
  "T41: a test that writes too much gets ENOSPC, and says so; commits go on",
  async (t) => {
    const { scene, store, second, tests, clock, warnings, ended } = await start(t);
    const { vmId } = scene.vm;
    const terms = { forMs: null, scratchLimitBytes: 3 * GRANULARITY };
    const opened = await tests.open({ vmId, pointId: second.pointId }, terms, false);
    const socket = socketOf(opened.disks[0]?.uri);
    await using one = await NbdClient.connect(socket, "vda");
    await using other = await NbdClient.connect(socket, "vdb");
    for (const block of [0, 1]) await one.write(block * GRANULARITY, FULL);
    await other.write(0, FULL);
    await t.rejects(other.write(GRANULARITY, FULL), /NBD error 28$/, "ENOSPC, over both disks");
    await one.write(0, FULL);
    t.ok(await scene.point(store, second.pointId, { 0: { 1: 33 } }), "replication goes on");
    await clock.run(10_000);
    await until("a warning", 10_000, () => warnings[0] ?? null);
    t.match(warnings[0], /^Writes of test failover .* fail: because its scratch has no more room/);
    const [listed] = await tests.list();
    t.match(listed?.test, { refusedWriteCount: 1, clientCount: 2, scratchBytes: 3 * GRANULARITY });
    await tests.end(opened.exportId);
    t.match(ended, [{ outcome: "closed", refusedWriteCount: 1 }]);
  },
);

void t.test("T41: a test leaves the floor of free space", async (t) => {
  const { scene, second, tests } = await start(t, 2 ** 50);
  const request = { vmId: scene.vm.vmId, pointId: second.pointId };
  const opened = await tests.open(request, FOREVER, false);
  await using client = await NbdClient.connect(socketOf(opened.disks[0]?.uri), "vda");
  await t.rejects(client.write(0, FULL), /NBD error 28$/);
  t.same([...new Set(await client.read(0, GRANULARITY))], [11], "it can be read");
});

void t.test(
  "want of room ends the one that is open longest, of the VMs it is asked for",
  async (t) => {
    const { scene, first, second, tests, ended } = await start(t);
    const { vmId } = scene.vm;
    const oldest = await tests.open({ vmId, pointId: second.pointId }, FOREVER, false);
    await tests.open({ vmId, pointId: first.pointId }, FOREVER, false);
    t.equal(await tests.endOldest(["another"]), false);
    t.equal(await tests.endOldest([vmId]), true);
    t.match(ended, [{ exportId: oldest.exportId, outcome: "space shortage" }]);
  },
);

void t.test("a group's members are open together, or none of them", async (t) => {
  const { scene, first, second, tests, scratches } = await start(t);
  const { vmId } = scene.vm;
  const cut = { groupId: vmId, name: "shop", cutNumber: 7 };
  const unknown = { vmId, pointId: vmId };
  const known = [first, second].map(({ pointId }) => ({ vmId, pointId }));
  await t.rejects(tests.openGroup([...known, unknown], cut, FOREVER, false), { code: "NOT_FOUND" });
  t.same([await tests.list(), await scratches()], [[], []]);
  const [one, two] = await tests.openGroup(known, cut, forMs(HOUR_MS), false);
  const testId = one?.test.group?.testId ?? "";
  t.match(one?.test.group, cut);
  t.equal(two?.test.group?.testId, testId);
  await tests.prolong(testId, { untilMs: null });
  t.same(
    (await tests.list()).map(({ test }) => test.untilMs),
    [null, null],
  );
  await tests.end(testId);
  t.same([await tests.list(), await scratches()], [[], []]);
});

void t.test("--check reads the whole point and says what it found", async (t) => {
  const { scene, second, tests, ended } = await start(t);
  const request = { vmId: scene.vm.vmId, pointId: second.pointId };
  const checked = async (exportId: string) => {
    const state = async () =>
      (await tests.list()).find((test) => test.exportId === exportId)?.test.check;
    while ((await state())?.state === "running") await new Promise((next) => setImmediate(next));
    return state();
  };
  const [one, two] = [
    await tests.open(request, FOREVER, true),
    await tests.open(request, FOREVER, true),
  ];
  t.match(one.test.check, { state: "running", durationMs: null });
  t.match(await checked(one.exportId), { state: "good", verifiedBytes: 4 * GRANULARITY });
  t.match(await checked(two.exportId), { state: "good" }, "one after the other");
  await tests.end(one.exportId);
  t.match(ended[0]?.check, { state: "good" });
});

void t.test("a check that fails or does not end is no good one", async (t) => {
  const { scene, second, exports, clock, ended } = await start(t);
  const request = { vmId: scene.vm.vmId, pointId: second.pointId };
  let hasFailed = false;
  const tests = new TestFailovers({
    exports,
    verifications: {
      verify: async () => {
        if (hasFailed) return new Promise(() => undefined);
        hasFailed = true;
        throw new TidemarkError("IO_ERROR", "The disk is gone.");
      },
    },
    clock,
    onEnd: async (vmId, report) => void ended.push({ ...report, vmId }),
    onWarning: (message) => t.fail(message),
  });
  const failing = await tests.open(request, FOREVER, true);
  const [listed] = await tests.list();
  t.match(listed?.test.check, { state: "failed", failure: "The disk is gone." });
  await tests.end(failing.exportId);
  const hanging = await tests.open(request, FOREVER, true);
  await tests.end(hanging.exportId);
  t.equal(ended[1]?.check, null);
});

void t.test("the end of the service ends it; its death is told of at the next start", async (t) => {
  const { root, scene, store, first, second, tests, ended, scratches } = await start(t);
  const { vmId } = scene.vm;
  const killed = await tests.open({ vmId, pointId: second.pointId }, forMs(HOUR_MS), false);
  {
    await using client = await NbdClient.connect(socketOf(killed.disks[0]?.uri), "vda");
    await client.write(0, FULL);
  }
  const after = await openTests(t, store, root);
  t.same(await after.scratches(), [], "nothing is left of it");
  await after.tests.reportDropped();
  t.match(after.ended, [
    { vmId, exportId: killed.exportId, outcome: "death of the service", scratchBytes: GRANULARITY },
  ]);
  const last = await after.tests.open({ vmId, pointId: first.pointId }, FOREVER, false);
  await after.tests.close();
  t.match(after.ended[1], { exportId: last.exportId, outcome: "end of the service" });
  await t.rejects(after.tests.open({ vmId, pointId: first.pointId }, FOREVER, false), {
    code: "CLOSED",
  });
  t.same([ended, await scratches()], [[], []]);
});

void t.test("T26: what a test holds is let go at its end, not before", async (t) => {
  const { scene, store, first, second, tests, clock, ended } = await start(t);
  const { vmId } = scene.vm;
  await tests.open({ vmId, pointId: first.pointId }, forMs(HOUR_MS), false);
  const third = await scene.point(store, second.pointId, { 0: { 1: 33 } });
  t.equal(await keepNewest(store, vmId, 1), true, "merges do not wait for it");
  const left = async () => (await store.points(vmId)).map(({ sequence }) => sequence);
  t.same(await left(), [1, 3]);
  await clock.run(HOUR_MS);
  await until("its end", 10_000, () => ended[0] ?? null);
  t.equal(await keepNewest(store, vmId, 1), true);
  t.same(await left(), [3]);
  t.same((await readBlocks(store, binding, vmId, third.pointId))[0]?.slice(0, 3), [11, 33, 0]);
});
