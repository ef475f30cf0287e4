/** Application-consistent points: when, with what at rest, and what comes of every failure. */
import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { Bench, type BenchOptions } from "./bench.js";
import { A, B, GroupBench } from "./group-bench.js";
import { VM_ID } from "./simulation/scene.js";

const EVERY_MS = 4000;
const LIMIT_MS = 2000;
const SCRIPTS = { freezeScript: "/freeze", thawScript: "/thaw", frozenLimitMs: LIMIT_MS };
const WANTED = { ...SCRIPTS, applicationConsistentEveryMs: EVERY_MS };

const broken = () => Promise.reject(new TidemarkError("IO_ERROR", "The database is gone."));

async function quiesced(options: BenchOptions = {}): Promise<Bench> {
  const bench = await Bench.replicating({
    ...options,
    limits: { freezeRetryMs: 2000, thawLimitMs: 1500, ...options.limits },
  });
  await bench.engine.change(VM_ID, WANTED);
  return bench;
}

let written = 0;

async function busyCycles(bench: Bench, count: number): Promise<void> {
  for (let cycle = 0; cycle < count; cycle += 1) {
    bench.writeBlock(cycle % 20, (written += 1) & 0xff);
    await bench.cycles(1);
  }
}

async function consistencies(bench: Bench): Promise<string> {
  const points = await bench.replica.points(VM_ID);
  return points.map(({ consistency }) => consistency.slice(0, 1)).join("");
}

/** Whether the applications were at rest at each cut. */
function watchCuts(bench: Bench): boolean[] {
  const atRest: boolean[] = [];
  bench.trackerParts.checkpoint = (targetId, options) => {
    atRest.push(bench.applications.isFrozen);
    return bench.tracker.checkpoint(targetId, options);
  };
  return atRest;
}

void t.test("every so often a point is cut at rest, marked so, and thawed at once", async (t) => {
  const bench = await quiesced();
  const atRest = watchCuts(bench);
  await busyCycles(bench, 10);
  t.equal(await consistencies(bench), "caccc" + "accc" + "ac");
  t.same(
    atRest.map((isAtRest) => (isAtRest ? "a" : "c")).join(""),
    (await consistencies(bench)).slice(1),
    "what is marked was at rest, and nothing else",
  );
  t.equal(bench.applications.isFrozen, false);
  const { applicationConsistency, lastCycle, health } = await bench.status();
  const points = await bench.replica.points(VM_ID);
  const last = points.findLast(({ consistency }) => consistency === "application");
  t.same(applicationConsistency, {
    lastPointAtMs: last?.takenAtMs,
    lastError: null,
    thaw: null,
  });
  t.equal(lastCycle?.consistency, "crash");
  t.equal(health, "normal");
  t.same(await bench.store.list("freezes/"), []);
  await bench.engine.close();
});

void t.test("an empty cut at rest makes the head application-consistent", async (t) => {
  const bench = await quiesced();
  await bench.cycles(1);
  t.equal(await consistencies(bench), "a");
  await bench.cycles(1);
  t.equal(await consistencies(bench), "a", "and what follows does not take it back");
  await bench.engine.close();
});

void t.test("a freeze that fails costs nothing but the mark, and is tried again", async (t) => {
  const bench = await quiesced();
  bench.applications.onFreeze = async () => {
    bench.applications.isFrozen = true;
    await broken();
  };
  const atRest = watchCuts(bench);
  await busyCycles(bench, 2);
  t.equal(await consistencies(bench), "ccc");
  t.notOk(atRest.includes(true), "it was thawed before the cut");
  const { health, healthReasons, applicationConsistency } = await bench.status();
  t.equal(health, "warning");
  t.match(healthReasons, [/not application-consistent: The database is gone. Next try at/]);
  t.match(applicationConsistency?.lastError, { code: "IO_ERROR" });
  t.equal(bench.of("freeze-failed").length, 1, "not in each cycle");
  delete bench.applications.onFreeze;
  await busyCycles(bench, 2);
  t.match(await consistencies(bench), /^ccca/);
  t.equal((await bench.status()).health, "normal");
  await bench.engine.close();
});

void t.test("tries for a point that does not come are put off more and more", async (t) => {
  const bench = await quiesced();
  await bench.engine.change(VM_ID, { applicationConsistentEveryMs: 60_000 });
  bench.applications.onFreeze = broken;
  await busyCycles(bench, 120);
  const count = bench.of("freeze-failed").length;
  t.ok(count >= 5 && count <= 8, `${count} tries in two minutes`);
  await bench.engine.close();
});

void t.test("what is not at rest within the box is thawed when it ends, and cut", async (t) => {
  const bench = await quiesced();
  bench.applications.onFreeze = () => {
    bench.applications.isFrozen = true;
    return new Promise(() => {});
  };
  const atRest = watchCuts(bench);
  bench.writeBlock(1, 1);
  await bench.clock.run(1000 + LIMIT_MS - 50);
  t.equal(bench.applications.isFrozen, true);
  await bench.clock.run(100);
  t.equal(bench.applications.isFrozen, false);
  t.ok(atRest.length > 0 && !atRest.includes(true));
  t.match((await bench.status()).healthReasons[0], /took more than 2 s/);
  await bench.engine.close();
});

void t.test(
  "a checkpoint that comes after the box is not called application-consistent",
  async (t) => {
    const bench = await quiesced();
    const frozenAt: number[] = [];
    bench.applications.onThaw = async () => void frozenAt.push(bench.clock.monotonicMs());
    const begunMs = bench.clock.monotonicMs();
    bench.trackerParts.checkpoint = async (targetId, options) => {
      await bench.clock.sleep(LIMIT_MS + 500);
      return bench.tracker.checkpoint(targetId, options);
    };
    bench.writeBlock(1, 1);
    await bench.clock.run(5000);
    t.match(await consistencies(bench), /^cc+$/);
    t.ok((frozenAt[0] ?? Infinity) <= begunMs + 1000 + LIMIT_MS, "thawed in time");
    t.match((await bench.status()).healthReasons.join(), /took more than 2 s/);
    const closed = bench.engine.close();
    await bench.clock.run(5000);
    await closed;
  },
);

void t.test("the thaw runs when the checkpoint fails", async (t) => {
  const bench = await quiesced();
  bench.trackerParts.checkpoint = broken;
  await bench.cycles(2);
  t.equal(bench.applications.isFrozen, false);
  t.same(await bench.store.list("freezes/"), []);
  delete bench.trackerParts.checkpoint;
  await busyCycles(bench, 4);
  t.match(await consistencies(bench), /a/);
  await bench.engine.close();
});

void t.test("a thaw that fails is tried until it works, and is critical meanwhile", async (t) => {
  const bench = await quiesced();
  bench.applications.onThaw = broken;
  await busyCycles(bench, 6);
  t.equal(bench.applications.isFrozen, true);
  t.equal((await consistencies(bench)).length, 7, "cycles go on");
  const { health, healthReasons } = await bench.status();
  t.equal(health, "critical");
  t.match(healthReasons[0], /may be frozen since .*The database is gone/);
  bench.applications.onThaw = () => new Promise(() => {});
  await busyCycles(bench, 12);
  t.match((await bench.status()).healthReasons[0], /thaw did not end within 1.5 s/);
  delete bench.applications.onThaw;
  await busyCycles(bench, 15);
  t.equal(bench.applications.isFrozen, false);
  t.equal((await bench.status()).health, "normal");
  await bench.engine.close();
});

for (const [moment, prepare] of [
  ["while it freezes", (bench: Bench) => (bench.applications.onFreeze = hang)],
  ["when it is at rest", (bench: Bench) => (bench.trackerParts.checkpoint = hang)],
  ["while it thaws", (bench: Bench) => (bench.applications.onThaw = hang)],
] as const) {
  void t.test(`a service that dies ${moment} has thawed after its next start`, async (t) => {
    const bench = await quiesced();
    prepare(bench);
    bench.writeBlock(1, 1);
    await bench.clock.run(1000);
    t.equal((await bench.store.list("freezes/")).length, 1, "it is noted");
    delete bench.applications.onThaw;
    delete bench.trackerParts.checkpoint;
    bench.applications.isFrozen = true;
    // No later freeze comes so far that its thaw could be meant.
    bench.applications.onFreeze = hang;
    await bench.crash();
    await bench.clock.run(10);
    t.equal(bench.applications.isFrozen, false);
    delete bench.applications.onFreeze;
    await busyCycles(bench, 10);
    t.same(await bench.store.list("freezes/"), []);
    t.match(await consistencies(bench), /a/);
    await bench.engine.close();
  });
}

function hang(): Promise<never> {
  return new Promise(() => {});
}

void t.test("a freeze that cannot be noted does not begin", async (t) => {
  const bench = await quiesced();
  bench.storeParts.put = (key, value, version) =>
    key.startsWith("freezes/") ? broken() : bench.store.put(key, value, version);
  const atRest = watchCuts(bench);
  await busyCycles(bench, 3);
  t.same(atRest, [false, false, false]);
  await bench.engine.close();
});

void t.test("what is suspended, stopped or handed over while it freezes is thawed", async (t) => {
  const bench = await quiesced();
  bench.applications.onFreeze = () => {
    bench.applications.isFrozen = true;
    return new Promise(() => {});
  };
  await bench.clock.run(1500);
  t.equal(bench.applications.isFrozen, true);
  await bench.engine.suspend(VM_ID);
  t.equal(bench.applications.isFrozen, false);
  await bench.engine.resume(VM_ID);
  await bench.clock.run(500);
  t.equal(bench.applications.isFrozen, true, "it was no failure");
  await bench.engine.close();
  t.equal(bench.applications.isFrozen, false);
});

void t.test("a VM that is given away is shut down, and not frozen", async (t) => {
  const bench = await quiesced();
  const atRest = watchCuts(bench);
  bench.writeBlock(1, 1);
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  t.equal((await bench.status()).state, "failed-over");
  t.notOk(atRest.includes(true));
  await bench.engine.close();
});

void t.test("an interval without scripts is refused", async (t) => {
  const bench = await Bench.replicating();
  const wanted = { applicationConsistentEveryMs: EVERY_MS, freezeScript: "/freeze" };
  await t.rejects(bench.engine.change(VM_ID, wanted), {
    code: "INVALID_ARGUMENT",
    message: /no script to thaw/,
  });
  await bench.engine.close();
});

void t.test("the VMs of a group are all at rest at their common cut", async (t) => {
  const bench = await GroupBench.replicating();
  for (const vmId of [A, B]) await bench.engine.change(vmId, WANTED);
  // B becomes due later, and slowly.
  bench.vm(B).applications.onFreeze = () => bench.clock.sleep(300);
  const atRest: boolean[][] = [];
  const { tracker } = bench.vm(A);
  bench.vm(A).trackerParts.checkpoint = (targetId, options) => {
    atRest.push([A, B].map((vmId) => bench.vm(vmId).applications.isFrozen));
    return tracker.checkpoint(targetId, options);
  };
  await bench.cycles(7);
  const [none, both] = [
    [false, false],
    [true, true],
  ];
  t.same(atRest, [both, none, none, none, both, none, none].slice(0, atRest.length));
  const marks = (vmId: string) =>
    bench.replica
      .points(vmId)
      .then((points) => points.map(({ consistency }) => consistency[0]).join(""));
  t.match(await marks(A), /^ca.*ca/);
  t.equal(await marks(B), await marks(A));
  await bench.engine.close();
});

void t.test("members come to rest together also when one alone is due", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.engine.change(A, WANTED);
  await bench.engine.change(B, { ...WANTED, applicationConsistentEveryMs: 3_600_000 });
  await bench.cycles(10);
  const count = async (vmId: string) =>
    (await bench.replica.points(vmId)).filter((point) => point.consistency === "application")
      .length;
  t.equal(await count(A), 3);
  t.equal(await count(B), 3);
  await bench.engine.close();
});

void t.test(
  "a member that cannot be frozen does not keep the others from their points",
  async (t) => {
    const bench = await GroupBench.replicating();
    for (const vmId of [A, B]) await bench.engine.change(vmId, WANTED);
    bench.vm(B).applications.onFreeze = broken;
    await bench.cycles(3);
    const [ofA, ofB] = await Promise.all([A, B].map((vmId) => bench.replica.points(vmId)));
    t.equal(ofA?.[1]?.consistency, "application");
    t.equal(ofB?.[1]?.consistency, "crash");
    t.same(ofA?.[1]?.group?.takenVmIds, [A, B]);
    t.equal((await bench.engine.status(A)).health, "normal");
    t.equal((await bench.engine.status(B)).health, "warning");
    await bench.engine.close();
  },
);
