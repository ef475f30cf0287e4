/** One VM, two targets, each a relationship of its own: what they share, and what they do not. */
import { randomUUID } from "node:crypto";
import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { BOTH, FAR, FAR_ID, FanOutBench } from "./fan-out-bench.js";
import { GUEST_DISK, SETTINGS, VM_ID } from "./simulation/scene.js";

const A_WHILE_MS = 200_000;
const GIVEN_AWAY = { code: "CONFLICT", message: /to another of its targets/ };

const unreachable = () => Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));

/** Of an order that takes time. */
async function done(bench: FanOutBench, work: Promise<unknown>): Promise<void> {
  await bench.clock.run(1);
  await work;
}

void t.test("each target has points, a rhythm, settings and a state of its own", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  t.same(bench.engine.idsOf(VM_ID), BOTH);
  t.same(bench.engine.targetsOf(VM_ID), [{ id: FAR_ID, name: "far" }]);
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.same([await bench.isEqual(VM_ID), await bench.isEqual(FAR_ID)], [true, false]);
  await bench.cycles(3);
  t.ok(await bench.bothEqual(), "a block that changes is read for each");
  await bench.engine.suspend(FAR_ID);
  await bench.engine.change(FAR_ID, { compression: 9 });
  bench.writeBlock(4, 2);
  await bench.cycles(2);
  t.same(await bench.states(), ["replicating", "suspended"]);
  t.same([await bench.isEqual(VM_ID), await bench.isEqual(FAR_ID)], [true, false]);
  t.equal((await bench.engine.status(VM_ID)).settings.compression, SETTINGS.compression);
  t.equal((await bench.engine.status(FAR_ID)).settings.compression, 9);
  t.ok((await bench.engine.status(FAR_ID)).pendingBytes > 0);
  t.equal((await bench.engine.status(VM_ID)).pendingBytes, 0);
  await bench.engine.resume(FAR_ID);
  await bench.cycles(4);
  t.ok(await bench.bothEqual());
  const ids = new Set(bench.of("cycle").map(({ targetId }) => targetId));
  t.same(ids, new Set([undefined, FAR_ID]), "events say which");
});

void t.test("a target that does not answer costs the other nothing", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  bench.farParts.status = unreachable;
  bench.farParts.openDelta = unreachable;
  for (let value = 1; value <= 3; value += 1) {
    bench.writeBlock(3, value);
    await bench.cycles(1);
    t.ok(await bench.isEqual(VM_ID), `cycle ${value}`);
  }
  t.equal((await bench.engine.status(VM_ID)).missedCycleCount, 0);
  delete bench.farParts.status;
  delete bench.farParts.openDelta;
  await bench.clock.run(A_WHILE_MS);
  t.ok(await bench.bothEqual());
});

void t.test("two targets of a VM have other names, and other hosts", async (t) => {
  const { engine } = await FanOutBench.replicatingToBoth();
  const other = { ...FAR, targetId: randomUUID() };
  const elsewhere = "https://elsewhere.example.com:4443";
  await t.rejects(engine.enable({ ...other, replicaUrl: elsewhere }), { code: "ALREADY_EXISTS" });
  for (const { replicaUrl } of [FAR, SETTINGS]) {
    const sameHost = { ...other, targetName: "other", replicaUrl };
    await t.rejects(engine.enable(sameHost), { code: "ALREADY_EXISTS", message: /is that host/ });
  }
  await t.rejects(engine.change(VM_ID, { replicaUrl: FAR.replicaUrl }), { code: "ALREADY_EXISTS" });
});

void t.test("T38: it is handed over to one of its targets at a time", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  const orders = await Promise.allSettled(BOTH.map((id) => bench.engine.handOver(id)));
  t.same(
    orders.map(({ status }) => status),
    ["fulfilled", "rejected"],
    "of two orders at once",
  );
  t.match(orders[1], { reason: GIVEN_AWAY });
  await bench.cycles(3);
  t.same(await bench.states(), ["failed-over", "replicating"]);
  await t.rejects(bench.engine.handOver(FAR_ID), GIVEN_AWAY);
  bench.writeBlock(3, 1);
  await bench.cycles(4);
  t.ok(await bench.isEqual(FAR_ID), "the other goes on with what was written");
  await bench.cancelThere(VM_ID);
  await bench.clock.run(A_WHILE_MS);
  await bench.engine.handOver(FAR_ID);
  await t.rejects(bench.engine.handOver(VM_ID), GIVEN_AWAY);
  await bench.crash();
  await t.rejects(bench.engine.handOver(VM_ID), GIVEN_AWAY, "after a restart, too");
  await bench.clock.run(A_WHILE_MS);
  t.same(await bench.states(), ["replicating", "failed-over"]);
});

void t.test("T38: nor while the answer of the first one is missing, or its note's", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  bench.endpointParts.succeed = unreachable;
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  await t.rejects(bench.engine.handOver(FAR_ID), GIVEN_AWAY);
  await bench.engine.takeBack(VM_ID);
  await bench.cycles(3);
  await t.rejects(bench.engine.handOver(FAR_ID), GIVEN_AWAY, "it may have been asked before");
  delete bench.endpointParts.succeed;
  await bench.clock.run(A_WHILE_MS);
  t.same(await bench.states(), ["replicating", "replicating"]);
  bench.storeParts.put = async (...put) => {
    delete bench.storeParts.put;
    await bench.store.put(...put);
    throw new TidemarkError("IO_ERROR", "no answer");
  };
  bench.storeParts.get = async (key) => {
    await bench.clock.sleep(1000);
    return bench.store.get(key);
  };
  await t.rejects(bench.engine.handOver(VM_ID), { code: "IO_ERROR" });
  t.equal((await bench.recordOf(VM_ID)).state, "handing-over", "it was noted");
  const isRefused = t.rejects(bench.engine.handOver(FAR_ID), GIVEN_AWAY);
  await bench.clock.run(A_WHILE_MS);
  await isRefused;
});

void t.test("an order that is refused leaves the delta that is under way alone", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  await bench.engine.handOver(VM_ID);
  await bench.clock.run(A_WHILE_MS);
  bench.writeBlock(3, 1);
  let begun = 0;
  bench.farParts.openDelta = async (header) => {
    begun += 1;
    await bench.clock.sleep(1000);
    return bench.far.openDelta(header);
  };
  for (let waits = 0; begun === 0 && waits < 60; waits += 1) await bench.clock.run(100);
  const isRefused = t.rejects(bench.engine.handOver(FAR_ID), GIVEN_AWAY);
  await bench.clock.run(2000);
  await isRefused;
  t.equal(begun, 1);
  t.ok(await bench.isEqual(FAR_ID));
});

void t.test("T40: guests reach the disks only when no target has the VM any more", async (t) => {
  for (const [first, second] of [BOTH, [...BOTH].reverse()] as const) {
    if (first === undefined || second === undefined) continue;
    const bench = await FanOutBench.replicatingToBoth();
    await bench.failOverThere(first);
    await bench.cycles(5);
    t.equal(bench.isServed, false);
    await bench.failOverThere(second);
    await bench.cycles(5);
    t.same(await bench.states(), ["failed-over", "failed-over"]);
    await bench.cancelThere(first);
    await bench.clock.run(A_WHILE_MS);
    t.equal(await bench.stateOf(first), "replicating");
    t.notOk(bench.servedChanges.includes(true), "one that is back is not enough");
    await bench.crash();
    await bench.clock.run(A_WHILE_MS);
    t.notOk(bench.servedChanges.includes(true), "after a restart neither");
    await bench.cancelThere(second);
    await bench.clock.run(A_WHILE_MS);
    t.equal(bench.isServed, true);
    bench.writeBlock(3, 1);
    await bench.cycles(4);
    t.ok(await bench.bothEqual());
  }
});

void t.test("two that come back at the same time serve the guest", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  for (const id of BOTH) await bench.failOverThere(id);
  await bench.cycles(5);
  t.equal(bench.isServed, false);
  for (const id of BOTH) await bench.cancelThere(id);
  // Each knows that it is back before either has noted it.
  bench.storeParts.put = async (...put) => {
    await bench.clock.sleep(100);
    return bench.store.put(...put);
  };
  bench.onServed = () => bench.clock.sleep(100);
  await Promise.all(BOTH.map((id) => bench.engine.resume(id)));
  await bench.clock.run(A_WHILE_MS);
  t.same(await bench.states(), ["replicating", "replicating"]);
  t.equal(bench.isServed, true);
});

void t.test("T40: one that comes back while another goes does not serve the guest", async (t) => {
  for (const [gone, back] of [BOTH, [FAR_ID, VM_ID] as const]) {
    const bench = await FanOutBench.replicatingToBoth();
    await bench.failOverThere(back);
    await bench.cycles(5);
    await bench.cancelThere(back);
    await bench.engine.suspend(gone);
    await bench.failOverThere(gone);
    let isServed = false;
    // What lets guests in takes longer than what keeps them away.
    bench.onServed = async (serves) => {
      await bench.clock.sleep(serves ? 500 : 100);
      isServed = serves;
    };
    bench.storeParts.put = async (...put) => {
      await bench.clock.sleep(100);
      return bench.store.put(...put);
    };
    for (const id of BOTH) void bench.engine.resume(id);
    for (let tenth = 0; tenth < 20; tenth += 1) {
      await bench.clock.run(100);
      if ((await bench.stateOf(gone)) === "failed-over") t.equal(isServed, false);
    }
    await bench.clock.run(A_WHILE_MS);
    t.equal(await bench.stateOf(gone), "failed-over");
    t.equal(await bench.stateOf(back), "replicating");
    t.equal(isServed, false);
  }
});

void t.test(
  "by explicit order, a target that has the VM is removed and guests go on",
  async (t) => {
    const bench = await FanOutBench.replicatingToBoth();
    for (const id of BOTH) await bench.failOverThere(id);
    await bench.cycles(5);
    await done(bench, bench.engine.remove(VM_ID));
    t.equal(bench.isServed, false, "another one has it still");
    t.same(bench.engine.idsOf(VM_ID), [FAR_ID]);
    await bench.cancelThere(FAR_ID);
    await bench.clock.run(A_WHILE_MS);
    t.equal(bench.isServed, true);
    await bench.engine.enable({ ...SETTINGS, replicaUrl: "https://third.example.com:4443" });
    await bench.failOverThere(FAR_ID);
    await bench.cycles(5);
    t.equal(bench.isServed, false);
    await done(bench, bench.engine.remove(FAR_ID));
    t.equal(bench.isServed, true);
  },
);

void t.test("a removal that died half way serves the guest when it is ordered again", async (t) => {
  for (let crashAt = 1; crashAt <= 6; crashAt += 1) {
    const bench = await FanOutBench.replicatingToBoth();
    await bench.failOverThere(FAR_ID);
    await bench.cycles(5);
    let step = 0;
    let isOver = false;
    const dying = <T>(work: () => Promise<T>): Promise<T> => {
      step += 1;
      if (isOver || step < crashAt) return work();
      const never = new Promise<T>(() => {});
      return step === crashAt ? work().then(() => never) : never;
    };
    const { store, tracker, storeParts, trackerParts } = bench;
    storeParts.put = (...put) => dying(() => store.put(...put));
    storeParts.delete = (...key) => dying(() => store.delete(...key));
    trackerParts.removeTarget = (...target) => dying(() => tracker.removeTarget(...target));
    bench.onServed = () => dying(async () => {});
    void bench.engine.remove(FAR_ID).catch(() => undefined);
    await bench.clock.run(5);
    isOver = true;
    await bench.crash();
    await bench.cycles(5);
    if (bench.engine.has(FAR_ID)) await done(bench, bench.engine.remove(FAR_ID));
    t.equal(bench.isServed, true, `after step ${crashAt}`);
    t.same(bench.engine.idsOf(VM_ID), [VM_ID]);
  }
});

void t.test("T34: disks change while no target of the VM is being cut", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  let cutsMeanwhile = 0;
  let isChanging = false;
  const watched = <T>(work: () => Promise<T>): Promise<T> => {
    if (isChanging) cutsMeanwhile += 1;
    return work();
  };
  bench.trackerParts.checkpoint = (...cut) => watched(() => bench.tracker.checkpoint(...cut));
  bench.trackerParts.drain = (...cut) => watched(() => bench.tracker.drain(...cut));
  const changed = bench.engine.changeDisks(VM_ID, async () => {
    isChanging = true;
    await bench.clock.sleep(20_000);
    bench.tracker.addDisk(GUEST_DISK, Buffer.alloc(GUEST_DISK.sizeBytes, 0x55));
    isChanging = false;
  });
  await bench.clock.run(20_001);
  await changed;
  t.equal(cutsMeanwhile, 0);
  await bench.cycles(5);
  t.ok(await bench.bothEqual());
  for (const id of BOTH) {
    const { disks } = bench.replicaOf(id).disksOf(VM_ID, (await bench.headOf(id))?.pointId ?? "");
    t.equal(disks.length, 3);
  }
});

void t.test("a restart keeps what each target is", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  await bench.engine.suspend(VM_ID);
  await bench.failOverThere(FAR_ID);
  await bench.cycles(5);
  const before = await Promise.all(BOTH.map((id) => bench.recordOf(id)));
  await bench.crash();
  t.same(bench.engine.idsOf(VM_ID), BOTH);
  t.same(bench.engine.targetsOf(VM_ID), [{ id: FAR_ID, name: "far" }]);
  await bench.clock.run(A_WHILE_MS);
  t.same(await bench.states(), ["suspended", "failed-over"]);
  t.same(await Promise.all(BOTH.map((id) => bench.recordOf(id))), before);
  t.equal(bench.isServed, false);
  await bench.cancelThere(FAR_ID);
  await bench.engine.resume(VM_ID);
  await bench.clock.run(A_WHILE_MS);
  t.ok(await bench.bothEqual());
  t.equal(bench.isServed, true);
});

void t.test("a VM that is let go of is let go of by all, and forgotten with all", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  await bench.engine.handOver(FAR_ID);
  await bench.cycles(5);
  const { headPointId } = await bench.recordOf(FAR_ID);
  const leftAt = { forkPointId: headPointId, formerHeadId: headPointId ?? undefined };
  const differences = await bench.engine.letGo(FAR_ID, leftAt);
  t.equal(differences.isUnchanged, true);
  t.ok(differences.marks?.every(({ changed }) => changed.length === 0));
  const touched: string[] = [];
  bench.trackerParts.checkpoint = (...cut) => {
    touched.push("checkpoint");
    return bench.tracker.checkpoint(...cut);
  };
  bench.trackerParts.removeTarget = async () => void touched.push("removeTarget");
  bench.writeBlock(3, 1);
  await bench.clock.run(A_WHILE_MS);
  t.same(touched, [], "until the service starts again");
  await bench.engine.forget(VM_ID);
  t.same(bench.engine.idsOf(VM_ID), []);
  t.same(await bench.store.list("relationships/"), []);
  t.same(touched, [], "the VM's bitmaps are not touched");
  t.equal(bench.isServed, false);
});
