/** The first copy: scheduled, started, cancelled, paused, and gone on with. */
import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { Bench } from "./bench.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";

const DAY_MS = 86_400_000;
const unreachable = () => Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));
const limits = { passBytes: 8 * GRANULARITY, closingBytes: 8 };
const allBytes = DISKS.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);

void t.test("it begins at its time, and not before", async (t) => {
  const bench = new Bench();
  const startAtMs = bench.clock.nowMs() + 6 * DAY_MS;
  await bench.engine.enable(SETTINGS, startAtMs);
  await bench.clock.run(5 * DAY_MS);
  t.match(await bench.status(), { state: "ready", health: "warning", waitsUntilMs: startAtMs });
  await t.rejects(
    bench.replica.status(VM_ID),
    { code: "NOT_FOUND" },
    "the replica knows nothing yet",
  );
  await bench.crash();
  await bench.clock.run(DAY_MS - 1000);
  t.equal((await bench.status()).state, "ready", "a restart does not begin it either");
  await bench.clock.run(2000);
  t.equal((await bench.status()).state, "replicating");
  t.ok(await bench.isReplicaEqual());
});

void t.test("by hand, and at most a week ahead", async (t) => {
  const bench = new Bench();
  const late = bench.clock.nowMs() + 8 * DAY_MS;
  await t.rejects(bench.engine.enable(SETTINGS, late), { code: "INVALID_ARGUMENT" });
  await bench.engine.enable(SETTINGS, null);
  await bench.clock.run(DAY_MS);
  t.match(await bench.status(), { state: "ready", waitsUntilMs: null });
  const later = late + DAY_MS;
  await t.rejects(bench.engine.startInitial(VM_ID, later), { code: "INVALID_ARGUMENT" });
  await bench.engine.startInitial(VM_ID, bench.clock.nowMs() + 5000);
  await bench.clock.run(4000);
  t.equal((await bench.status()).state, "ready");
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(10);
  t.equal((await bench.status()).state, "replicating");
  await t.rejects(bench.engine.startInitial(VM_ID), { code: "CONFLICT" });
});

void t.test("a clock that is set back does not put off a copy that has begun", async (t) => {
  const bench = new Bench({ limits });
  bench.endpointParts.putSegment = unreachable;
  await bench.engine.enable(SETTINGS, bench.clock.nowMs() + DAY_MS);
  await bench.clock.run(DAY_MS + 1000);
  t.equal((await bench.status()).state, "initial-replication");
  await bench.engine.suspend(VM_ID);
  bench.clock.setWallClock(-7 * DAY_MS);
  delete bench.endpointParts.putSegment;
  await bench.engine.resume(VM_ID);
  await bench.clock.run(1000);
  t.ok(await bench.isReplicaEqual());
});

void t.test("a copy that was paused before a restart can be cancelled after it", async (t) => {
  const { bench } = await stuckAt(5);
  await bench.engine.suspend(VM_ID);
  await bench.crash();
  await bench.engine.cancelInitial(VM_ID);
  t.match(await bench.progress(), { stagedBytes: 0, pendingBytes: allBytes });
  t.ok(
    DISKS.every((disk) => bench.replica.stagedContentOf(VM_ID, disk)?.every((byte) => byte === 0)),
  );
});

/** A bench whose copy stops at the segment of that number. */
async function stuckAt(segment: number): Promise<{ bench: Bench; puts: () => number }> {
  const bench = new Bench({ limits });
  let puts = 0;
  bench.endpointParts.putSegment = async (source, signal) => {
    puts += 1;
    if (puts !== segment) return bench.replica.putSegment(source);
    return new Promise((_resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason as Error));
    });
  };
  await bench.engine.enable(SETTINGS);
  await bench.clock.run(10);
  return { bench, puts: () => puts };
}

void t.test("G9 T35: paused and gone on with, it does not begin anew", async (t) => {
  const { bench, puts } = await stuckAt(5);
  const { stagedBytes } = await bench.progress();
  t.ok(stagedBytes > 0);
  await bench.engine.suspend(VM_ID);
  t.equal((await bench.progress()).stagedBytes, stagedBytes);
  t.equal((await bench.status()).state, "suspended");
  await bench.clock.run(DAY_MS);
  const before = puts();
  await bench.engine.resume(VM_ID);
  await bench.clock.run(10);
  t.ok(await bench.isReplicaEqual());
  t.ok(puts() - before <= 6, `${puts() - before} segments for what was missing`);
});

void t.test("cancelled, it gives up the replica's space and tracks on", async (t) => {
  const { bench } = await stuckAt(5);
  t.ok((await bench.progress()).stagedBytes > 0);
  await bench.engine.cancelInitial(VM_ID);
  t.match(await bench.status(), { state: "ready", waitsUntilMs: null });
  t.match(await bench.progress(), { stagedBytes: 0, inFlightBytes: 0, pendingBytes: allBytes });
  t.ok(
    DISKS.every((disk) => bench.replica.stagedContentOf(VM_ID, disk)?.every((byte) => byte === 0)),
    "nothing is staged at the replica",
  );
  bench.writeBlock(3, 1);
  await bench.clock.run(DAY_MS);
  t.equal(await bench.pointCount(), 0);
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(100);
  t.equal((await bench.status()).state, "replicating");
  t.ok(await bench.isReplicaEqual());
});

void t.test("T22: a crash in the middle of the cancelling loses no mark", async (t) => {
  const { bench } = await stuckAt(5);
  bench.trackerParts.unstage = () => new Promise(() => {});
  void bench.engine.cancelInitial(VM_ID).catch(() => {});
  await bench.clock.run(10);
  t.match(await bench.record(), { state: "ready", stagingSessionId: null });
  t.ok((await bench.progress()).stagedBytes > 0);
  delete bench.trackerParts.unstage;
  await bench.crash();
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(100);
  t.ok(await bench.isReplicaEqual());
});

void t.test("a replica that is down does not keep anybody from cancelling", async (t) => {
  const { bench } = await stuckAt(5);
  bench.endpointParts.openStaging = () =>
    Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));
  await bench.engine.cancelInitial(VM_ID);
  t.equal((await bench.status()).state, "ready");
  delete bench.endpointParts.openStaging;
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(100);
  t.ok(await bench.isReplicaEqual());
});

void t.test("a paused one can be cancelled, one in error too, a finished one not", async (t) => {
  const { bench } = await stuckAt(5);
  await bench.engine.suspend(VM_ID);
  await bench.engine.cancelInitial(VM_ID);
  t.equal((await bench.status()).state, "ready");
  bench.endpointParts.enable = () => Promise.reject(new TidemarkError("FORBIDDEN", "no"));
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(10);
  t.equal((await bench.status()).state, "error");
  await bench.engine.cancelInitial(VM_ID);
  t.equal((await bench.status()).state, "ready");
  delete bench.endpointParts.enable;
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(100);
  t.equal((await bench.status()).state, "replicating");
  await t.rejects(bench.engine.cancelInitial(VM_ID), { code: "CONFLICT" });
});

void t.test("T23: cancelled while its commit is in doubt, it adopts the point later", async (t) => {
  const bench = new Bench({ limits });
  bench.endpointParts.commit = async (request) => {
    const point = await bench.replica.commit(request);
    return point === null ? null : new Promise(() => {});
  };
  await bench.engine.enable(SETTINGS);
  await bench.clock.run(10);
  t.ok((await bench.record()).inDoubt);
  delete bench.endpointParts.commit;
  await bench.crash();
  bench.endpointParts.status = () => new Promise(() => {});
  bench.endpointParts.enable = () =>
    Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));
  await bench.engine.cancelInitial(VM_ID);
  delete bench.endpointParts.status;
  delete bench.endpointParts.enable;
  bench.writeBlock(3, 1);
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(5000);
  t.equal((await bench.status()).state, "replicating");
  t.ok(await bench.isReplicaEqual());
  t.same(bench.tracker.marksOf(TARGET_ID, 0, 3), {
    live: false,
    pending: false,
    inFlight: false,
    staged: false,
    suspect: false,
  });
});

void t.test("progress has a rate and the time left", async (t) => {
  const bench = new Bench({ limits: { ...limits, parallelSegments: 1 } });
  bench.endpointParts.putSegment = async (source) => {
    await bench.clock.sleep(1000);
    return bench.replica.putSegment(source);
  };
  await bench.engine.enable(SETTINGS);
  await bench.clock.run(4500);
  const { initialProgress } = await bench.status();
  t.equal(initialProgress?.totalBytes, allBytes);
  t.ok((initialProgress?.sentBytes ?? 0) > 0);
  const { sentBytes = 0, bytesPerSecond = 0, remainingMs = 0 } = initialProgress ?? {};
  const expectedMs = ((allBytes - sentBytes) / (bytesPerSecond ?? 1)) * 1000;
  t.ok(Math.abs((remainingMs ?? 0) - expectedMs) < 1);
  await bench.clock.run(60_000);
  t.equal((await bench.status()).initialProgress, null);
});
