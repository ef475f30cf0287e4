/** When what is suspect is compared: the policy, its states, and the ways out of them. */
import t from "tap";
import type { ResyncPolicy } from "#lib/model/relationship-settings.js";
import { TidemarkError } from "#lib/model/errors.js";
import { Bench } from "./bench.js";
import { GRANULARITY, VM_ID } from "./simulation/scene.js";

const HOUR_MS = 3_600_000;

async function suspicious(policy: ResyncPolicy): Promise<Bench> {
  const bench = await Bench.replicating();
  await bench.engine.change(VM_ID, { resync: policy });
  bench.tracker.writeUnseen(0, 0, Buffer.alloc(GRANULARITY, 0x77));
  bench.tracker.suspect(0, 0, 4 * GRANULARITY, "power loss");
  await bench.cycles(2);
  return bench;
}

const states = (bench: Bench) => bench.of("state").map(({ state }) => state);

void t.test("manual: nothing travels until an administrator says so", async (t) => {
  const bench = await suspicious({ mode: "manual" });
  bench.writeBlock(9, 9);
  await bench.clock.run(HOUR_MS);
  t.match(await bench.status(), {
    state: "resynchronization-required",
    health: "critical",
    waitsUntilMs: null,
    suspectBytes: 4 * GRANULARITY,
    lastError: null,
  });
  t.equal(await bench.pointCount(), 1);
  const { missedCycleCount } = await bench.status();
  await bench.engine.resynchronize(VM_ID);
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.match(await bench.status(), { state: "replicating", suspectBytes: 0, missedCycleCount });
  t.equal((await bench.status()).lastHealing?.differingBytes, GRANULARITY);
  t.same(states(bench).slice(-3), ["resynchronization-required", "resynchronizing", "replicating"]);
  t.equal((await bench.record()).isResyncOrdered, false, "the order was for this time");
});

void t.test("an order survives a crash in the middle of the comparison", async (t) => {
  const bench = await suspicious({ mode: "manual" });
  bench.endpointParts.blockHashes = () => new Promise(() => {});
  await bench.engine.resynchronize(VM_ID);
  await bench.clock.run(10);
  t.equal((await bench.status()).state, "resynchronizing");
  delete bench.endpointParts.blockHashes;
  await bench.crash();
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.equal((await bench.status()).state, "replicating");
});

void t.test("a window is waited for, and the state says until when", async (t) => {
  // The virtual clock begins at 22:13:20 UTC.
  const bench = await suspicious({ mode: "window", from: "01:00", to: "02:00" });
  const { state, waitsUntilMs, healthReasons } = await bench.status();
  t.equal(state, "resynchronization-required");
  t.equal(waitsUntilMs, Date.UTC(2023, 10, 15, 1));
  t.match(healthReasons[0], /2023-11-15T01:00/);
  await bench.clock.run(Date.UTC(2023, 10, 15, 0, 59) - bench.clock.nowMs());
  t.equal(await bench.pointCount(), 1);
  await bench.clock.run(3 * 60_000);
  t.ok(await bench.isReplicaEqual());
  t.match(await bench.status(), { state: "replicating", waitsUntilMs: null });
});

void t.test(
  "T31 T35: a comparison that the window's end cuts short goes on in the next",
  async (t) => {
    const bench = new Bench({ limits: { comparisonBytes: GRANULARITY } });
    await bench.enabled();
    await bench.engine.change(VM_ID, { resync: { mode: "window", from: "01:00", to: "02:00" } });
    bench.tracker.suspect(0, 0, 4 * GRANULARITY, "power loss");
    let asked = 0;
    bench.endpointParts.blockHashes = async (request) => {
      asked += 1;
      await bench.clock.sleep(25 * 60_000);
      return bench.replica.blockHashes(request);
    };
    bench.tracker.writeUnseen(0, 3 * GRANULARITY, Buffer.alloc(GRANULARITY, 0x77));
    await bench.clock.run(Date.UTC(2023, 10, 15, 4) - bench.clock.nowMs());
    const { state, suspectBytes } = await bench.status();
    t.equal(state, "resynchronization-required");
    t.ok(suspectBytes > 0 && suspectBytes < 4 * GRANULARITY, `${suspectBytes} are left`);
    t.equal(await bench.pointCount(), 1);
    bench.writeBlock(0, 5);
    const before = asked;
    await bench.clock.run(24 * HOUR_MS);
    t.ok(asked - before <= 4, "what was compared is not compared again");
    t.ok(await bench.isReplicaEqual());
  },
);

void t.test("another policy lets it go on at once", async (t) => {
  const bench = await suspicious({ mode: "manual" });
  await bench.engine.change(VM_ID, { resync: { mode: "automatic" } });
  await bench.cycles(1);
  t.ok(await bench.isReplicaEqual());
});

void t.test("suspending and resuming keeps what waits waiting", async (t) => {
  const bench = await suspicious({ mode: "manual" });
  await bench.engine.suspend(VM_ID);
  t.equal((await bench.status()).state, "suspended");
  await bench.engine.resume(VM_ID);
  await bench.cycles(2);
  t.equal((await bench.status()).state, "resynchronization-required");
  t.equal(await bench.pointCount(), 1);
  await bench.crash();
  await bench.cycles(2);
  t.equal((await bench.status()).state, "resynchronization-required", "found again after a crash");
});

void t.test(
  "a comparison that fails is tried again; one that must not go on is an error",
  async (t) => {
    const bench = await suspicious({ mode: "manual" });
    bench.endpointParts.blockHashes = () =>
      Promise.reject(new TidemarkError("FORBIDDEN", "no", { hint: "Ask." }));
    await bench.engine.resynchronize(VM_ID);
    await bench.cycles(1);
    t.match(await bench.status(), {
      state: "error",
      lastError: { code: "FORBIDDEN", hint: "Ask." },
    });
    delete bench.endpointParts.blockHashes;
    await bench.engine.resume(VM_ID);
    await bench.cycles(2);
    t.ok(await bench.isReplicaEqual());
  },
);

void t.test("there is nothing to order where nothing waits", async (t) => {
  const bench = await Bench.replicating();
  await t.rejects(bench.engine.resynchronize(VM_ID), { code: "CONFLICT" });
});
