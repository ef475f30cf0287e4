/** How verifications run: slowly, one at a time, and by the calendar. */
import t, { type Test } from "tap";
import { ScrubSchedule } from "#lib/daemon/scrub-schedule.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { ScrubPace } from "#lib/replica/scrub-pace.js";
import { Verifications } from "#lib/replica/verifications.js";
import { settle, VirtualClock } from "../replication/simulation/virtual-clock.js";
import { until } from "../support/until.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { GRANULARITY, Scene } from "./support/scene.js";
import { sleeplessClock } from "./support/verified.js";

const PATIENCE_MS = 30_000;

async function twoVms(t: Test): Promise<{ store: ReplicaStore; vmIds: string[] }> {
  const store = await openNativeStore(t, await temporaryDirectory(t));
  const vmIds: string[] = [];
  for (let n = 0; n < 2; n += 1) {
    const scene = new Scene();
    await store.enable(scene.vm, scene.generation);
    const first = await scene.point(store, null, { 0: { 0: 1, 1: 2 } });
    await scene.point(store, first.pointId, { 0: { 2: 3 } });
    vmIds.push(scene.vm.vmId);
  }
  return { store, vmIds };
}

void t.test("a pace is never exceeded, and lost time is not made up", async (t) => {
  const clock = sleeplessClock();
  const pace = new ScrubPace(clock, 1000);
  const { signal } = new AbortController();
  for (const bytes of [100, 2500, 0, 400]) await pace.spend(bytes, signal);
  t.equal(clock.sleptMs(), 3000);
  await clock.sleep(60_000);
  await pace.spend(500, signal);
  t.equal(clock.sleptMs(), 63_500);
});

void t.test("paused, it waits; resumed or stopped, it goes on or ends", async (t) => {
  const pace = new ScrubPace(sleeplessClock(), 1e9);
  const stop = new AbortController();
  pace.pause();
  let isOver = false;
  const spending = pace.spend(1, stop.signal).then(() => (isOver = true));
  await new Promise((resolve) => setImmediate(resolve));
  t.notOk(isOver);
  pace.resume();
  await spending;
  pace.pause();
  const stopped = pace.spend(1, stop.signal);
  stop.abort(new Error("stopped"));
  await t.rejects(stopped, { message: "stopped" });
});

void t.test(
  "one that is asked for to its end waits for its turn, and may be given up",
  async (t) => {
    const { store, vmIds } = await twoVms(t);
    const [a = ""] = vmIds;
    await using verifications = new Verifications({
      store,
      clock: sleeplessClock(),
      bytesPerSecond: GRANULARITY,
    });
    const { signal } = new AbortController();
    await verifications.start(a, null);
    verifications.pause(a);
    const both = [1, 2].map((sequence) => verifications.verify(a, sequence, signal));
    await settle();
    t.match(await verifications.status(a), { running: { pointSequence: null } });
    verifications.resume(a);
    t.match(await Promise.all(both), [
      { pointSequence: 1, result: "good", verifiedBytes: 2 * GRANULARITY },
      { pointSequence: 2, result: "good", verifiedBytes: 3 * GRANULARITY },
    ]);
    await t.rejects(verifications.verify(a, 99, signal), { code: "NOT_FOUND" });

    // Its time stands still: it is not over before it is stopped.
    const clock = new VirtualClock();
    await using slow = new Verifications({ store, clock, bytesPerSecond: GRANULARITY });
    const stop = new AbortController();
    const refused = t.rejects(slow.verify(a, 2, stop.signal), { code: "CANCELLED" });
    await until("it", PATIENCE_MS, async () => (await slow.status(a)).running !== null);
    stop.abort(new Error("no more"));
    await refused;
  },
);

void t.test("one at a time; what was stopped counts for nothing", async (t) => {
  const { store, vmIds } = await twoVms(t);
  const [a = "", b = ""] = vmIds;
  const clock = new VirtualClock();
  await using verifications = new Verifications({ store, clock, bytesPerSecond: GRANULARITY });
  await verifications.start(a, null);
  await verifications.start(b, null);
  await t.rejects(verifications.start(a, null), { code: "IN_USE" });
  const progressOf = async (vmId: string) => (await verifications.status(vmId)).running;
  // Of its first layer; then time stands still.
  await until("a piece", PATIENCE_MS, async () => ((await progressOf(a))?.verifiedBytes ?? 0) > 0);
  t.match(await progressOf(a), {
    verifiedBytes: 2 * GRANULARITY,
    totalBytes: 3 * GRANULARITY,
    isPaused: false,
  });
  t.match(await progressOf(b), { verifiedBytes: 0 }, "it waits for its turn");
  verifications.pause(a);
  t.match(await progressOf(a), { isPaused: true });
  await verifications.stop(a);
  t.match(await verifications.status(a), {
    running: null,
    last: null,
    lastFailure: "The verification was stopped.",
  });
  await t.rejects(verifications.stop(a), { code: "NOT_FOUND" });
  const ended = verifications.settled(b);
  const ticking = (async () => {
    while ((await progressOf(b)) !== null) {
      await clock.run(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  await Promise.all([ended, ticking]);
  const { last } = await verifications.status(b);
  t.match(last, { result: "good", verifiedBytes: 3 * GRANULARITY });
  t.ok((last?.endedAtMs ?? 0) - (last?.startedAtMs ?? 0) >= 3000, "a block a second");
});

void t.test("of two that are asked for at once, one is under way", async (t) => {
  const { store, vmIds } = await twoVms(t);
  const [vmId = ""] = vmIds;
  const clock = new VirtualClock();
  const verifications = new Verifications({ store, clock, bytesPerSecond: 1 });
  const tries = [1, 2].map(() => verifications.start(vmId, null));
  const outcomes = await Promise.allSettled(tries);
  t.same(outcomes.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  const late = verifications.start(vmIds[1] ?? "", null);
  await Promise.all([verifications.close(), t.rejects(late, { code: "CLOSED" })]);
  t.equal((await verifications.status(vmId)).running, null);
});

void t.test("each replica is verified when its last time is an interval ago", async (t) => {
  const { store, vmIds } = await twoVms(t);
  const clock = new VirtualClock();
  const fast = { ...clockOf(clock), sleep: async () => undefined };
  await using verifications = new Verifications({ store, clock: fast, bytesPerSecond: 1e12 });
  const warnings: string[] = [];
  const schedule = new ScrubSchedule({
    store,
    verifications,
    clock,
    intervalMs: 10_000,
    checkIntervalMs: 1000,
    madeAtMs: async () => clock.nowMs(),
    onWarning: (message) => warnings.push(message),
  });
  const times = () =>
    Promise.all(vmIds.map(async (vmId) => (await verifications.status(vmId)).last?.endedAtMs));
  // Time stands still while the schedule looks around: its sleep is the clock's only timer.
  const asleep = async () => {
    while (clock.timerCount === 0) await settle();
  };
  const pass = async (milliseconds: number) => {
    for (let at = 0; at < milliseconds; at += 1000) {
      await asleep();
      await clock.run(1000);
    }
    await asleep();
  };
  await pass(5000);
  t.same(await times(), [undefined, undefined], "not at once");
  await pass(8000);
  const first = await times();
  t.ok(first.every((time) => time !== undefined));
  await pass(5000);
  t.same(await times(), first, "not again yet");
  await pass(8000);
  t.ok((await times()).every((time, at) => (time ?? 0) > (first[at] ?? 0)));
  t.same(warnings, []);
  await schedule.close();
});

void t.test("the age of a replica that was never verified counts over restarts", async (t) => {
  const { store, vmIds } = await twoVms(t);
  const [old = "", unknown = ""] = vmIds;
  const clock = new VirtualClock();
  const fast = { ...clockOf(clock), sleep: async () => undefined };
  await using verifications = new Verifications({ store, clock: fast, bytesPerSecond: 1e12 });
  const madeAtMs = clock.nowMs() - 9000;
  const schedule = new ScrubSchedule({
    store,
    verifications,
    clock,
    intervalMs: 10_000,
    checkIntervalMs: 1000,
    madeAtMs: (vmId) => (vmId === old ? Promise.resolve(madeAtMs) : Promise.reject(new Error())),
    onWarning: (message) => t.fail(message),
  });
  for (let second = 0; second < 3; second += 1) {
    while (clock.timerCount === 0) await settle();
    await clock.run(1000);
  }
  while (clock.timerCount === 0) await settle();
  t.not((await verifications.status(old)).last, null);
  t.equal((await verifications.status(unknown)).last, null, "from now on");
  await schedule.close();
});

function clockOf(clock: VirtualClock) {
  return { nowMs: () => clock.nowMs(), monotonicMs: () => clock.monotonicMs() };
}
