/** Settings that change while a relationship runs. */
import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { readRecord } from "#lib/model/relationship.js";
import { Bench } from "./bench.js";
import { override } from "./override.js";
import { GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";

const unreachable = () => Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));

void t.test("another interval holds at once, also during a long sleep", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.change(VM_ID, { intervalMs: 3_600_000 });
  await bench.clock.run(10_000);
  const before = (await bench.status()).cycleCount;
  await bench.clock.run(600_000);
  t.equal((await bench.status()).cycleCount, before, "an hour has not passed");
  await bench.engine.change(VM_ID, { intervalMs: 1000 });
  await bench.clock.run(10_500);
  t.equal((await bench.status()).cycleCount, before + 10);
  t.equal((await bench.status()).missedCycleCount, 0);
});

void t.test("what is under way goes on when settings change", async (t) => {
  const bench = new Bench({ limits: { passBytes: 8 * GRANULARITY, closingBytes: 8 } });
  let puts = 0;
  bench.endpointParts.putSegment = async (source) => {
    puts += 1;
    await bench.clock.sleep(100);
    return bench.replica.putSegment(source);
  };
  await bench.engine.enable(SETTINGS);
  await bench.clock.run(150);
  const putsBefore = puts;
  t.ok(putsBefore > 0);
  await bench.engine.change(VM_ID, { priority: "high", compression: "adaptive" });
  await bench.clock.run(5000);
  t.ok(await bench.isReplicaEqual());
  const undisturbed = new Bench({ limits: { passBytes: 8 * GRANULARITY, closingBytes: 8 } });
  let expected = 0;
  undisturbed.endpointParts.putSegment = async (source) => {
    expected += 1;
    return undisturbed.replica.putSegment(source);
  };
  await undisturbed.engine.enable(SETTINGS);
  await undisturbed.clock.run(5000);
  t.equal(puts, expected, "nothing travelled twice");
});

void t.test("a change is durable when it is answered, and survives a crash", async (t) => {
  const bench = await Bench.replicating();
  const throttle = { bytesPerSecond: 1e6, windows: [] };
  const resync = { mode: "window", from: "22:00", to: "06:00" } as const;
  const change = {
    intervalMs: 7000,
    compression: "off",
    priority: "low",
    throttle,
    resync,
  } as const;
  await bench.engine.change(VM_ID, change);
  t.match((await bench.record()).settings, { ...SETTINGS, ...change });
  await bench.crash();
  t.match((await bench.status()).settings, { ...SETTINGS, ...change });
});

void t.test("a change that cannot be noted changes nothing, and cycles go on", async (t) => {
  const bench = await Bench.replicating();
  bench.storeParts.put = () => Promise.reject(new TidemarkError("NO_SPACE", "the disk is full"));
  await t.rejects(bench.engine.change(VM_ID, { intervalMs: 9000 }), { code: "NO_SPACE" });
  delete bench.storeParts.put;
  bench.writeBlock(3, 1);
  await bench.cycles(5);
  t.ok(await bench.isReplicaEqual());
  t.equal((await bench.status()).settings.intervalMs, SETTINGS.intervalMs);
});

void t.test("nor does a removal, or a change of group, that cannot be noted end it", async (t) => {
  const bench = await Bench.replicating();
  const orders = [() => bench.engine.remove(VM_ID), () => bench.engine.setGroup(VM_ID, "pair")];
  for (const [block, order] of orders.entries()) {
    bench.storeParts.put = () => Promise.reject(new TidemarkError("IO_ERROR", "a bad day"));
    await t.rejects(order(), { code: "IO_ERROR" });
    delete bench.storeParts.put;
    bench.writeBlock(3 + block, 1);
    await bench.cycles(5);
    t.ok(await bench.isReplicaEqual(), "cycles go on");
  }
});

void t.test("a change and a commit note their things one after the other", async (t) => {
  const bench = await Bench.replicating();
  bench.storeParts.put = async (key, value, version) => {
    await bench.clock.sleep(20);
    return bench.store.put(key, value, version);
  };
  const changes: Promise<void>[] = [];
  bench.endpointParts.commit = async (request) => {
    // Its note is under way when the commit is to be noted.
    changes.push(bench.engine.change(VM_ID, { compression: 5 }));
    return bench.replica.commit(request);
  };
  for (let round = 1; round <= 5; round += 1) {
    bench.writeBlock(3, round);
    await bench.cycles(1);
  }
  await Promise.all(changes);
  const record = await bench.record();
  t.equal(record.settings.compression, 5);
  t.equal(record.headPointId, (await bench.head())?.pointId);
  t.equal(record.inDoubt, null);
  t.equal(bench.of("error").length, 0);
});

void t.test("another address is asked for its head before anything is sent there", async (t) => {
  const bench = await Bench.replicating();
  const opened: string[] = [];
  const asked: string[] = [];
  bench.onOpenReplica = (url) => opened.push(url);
  bench.endpointParts.status = (vmId) => {
    asked.push(vmId);
    return bench.replica.status(vmId);
  };
  const replicaUrl = "https://other.example.com:4443";
  await bench.engine.change(VM_ID, { replicaUrl });
  bench.writeBlock(3, 1);
  await bench.cycles(2);
  t.same([opened, asked], [[replicaUrl], [VM_ID]]);
  t.ok(await bench.isReplicaEqual());
  bench.replica.rollBack(VM_ID, 1);
  await bench.engine.change(VM_ID, { replicaUrl: SETTINGS.replicaUrl });
  await bench.cycles(2);
  t.match(await bench.status(), { state: "error", lastError: { code: "CONFLICT" } });
});

void t.test(
  "T22: changes that could not be given back outlive a change of the address",
  async (t) => {
    const bench = await Bench.replicating();
    let mayGiveBack = false;
    bench.endpointParts.putSegment = unreachable;
    bench.trackerParts.checkpoint = async (id, options) => {
      const changes = await bench.tracker.checkpoint(id, options);
      return override(changes, {
        giveBack: async () => {
          if (!mayGiveBack) throw new TidemarkError("IO_ERROR", "not now");
          return changes.giveBack();
        },
      });
    };
    bench.writeBlock(3, 1);
    await bench.cycles(5);
    t.equal((await bench.progress()).inFlightBytes, GRANULARITY);
    delete bench.endpointParts.putSegment;
    await bench.engine.change(VM_ID, { replicaUrl: "https://other.example.com:4443" });
    await bench.cycles(15);
    mayGiveBack = true;
    await bench.cycles(15);
    t.ok(await bench.isReplicaEqual());
    t.match(await bench.progress(), { pendingBytes: 0, inFlightBytes: 0 });
  },
);

void t.test("a failed cycle of a long interval is not put off to the next", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.change(VM_ID, { intervalMs: 3_600_000 });
  bench.writeBlock(3, 1);
  bench.endpointParts.putSegment = unreachable;
  await bench.clock.run(3_700_000);
  const { lastError, missedCycleCount } = await bench.status();
  t.equal(lastError?.code, "UNREACHABLE");
  t.ok((lastError?.retryAtMs ?? 0) <= bench.clock.nowMs() + 10_000, "says when it is tried again");
  t.equal(missedCycleCount, 1, "one cycle, however often it was tried");
  delete bench.endpointParts.putSegment;
  await bench.clock.run(20_000);
  t.ok(await bench.isReplicaEqual());
});

void t.test("continuous: what changes is there long before the interval has passed", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.change(VM_ID, { isContinuous: true, intervalMs: 1000 });
  await bench.clock.run(20_000);
  const before = (await bench.status()).cycleCount;
  for (let round = 1; round <= 10; round += 1) {
    bench.writeBlock(3, round);
    await bench.clock.run(200);
  }
  const { cycleCount, missedCycleCount } = await bench.status();
  t.ok(cycleCount - before >= 8, `${cycleCount - before} cycles in two seconds`);
  t.equal(missedCycleCount, 0);
  t.ok(await bench.isReplicaEqual());
});

void t.test("settings that make no sense are refused and change nothing", async (t) => {
  const bench = await Bench.replicating();
  const before = await bench.record();
  for (const change of [{ intervalMs: 1 }, { compression: 20 }, { compression: 1.5 }]) {
    await t.rejects(bench.engine.change(VM_ID, change), { code: "INVALID_ARGUMENT" });
  }
  await bench.engine.setGroup(VM_ID, "g");
  await t.rejects(bench.engine.change(VM_ID, { isContinuous: true }), { code: "INVALID_ARGUMENT" });
  await bench.engine.setGroup(VM_ID, null);
  await bench.engine.change(VM_ID, { isContinuous: true });
  await t.rejects(bench.engine.setGroup(VM_ID, "g"), { code: "INVALID_ARGUMENT" });
  await bench.engine.change(VM_ID, { isContinuous: false });
  t.same((await bench.record()).settings, before.settings);
  await t.rejects(bench.engine.change(TARGET_ID, {}), { code: "NOT_FOUND" });
});

void t.test("a record of the version before is read, with defaults", async (t) => {
  const bench = await Bench.replicating();
  const [document] = await bench.store.list("relationships/");
  const { initialStartAtMs, isResyncOrdered, ...common } = await bench.record();
  t.same([typeof initialStartAtMs, isResyncOrdered], ["number", false]);
  const { compression: _compression, ...settings } = SETTINGS;
  const record = { ...common, settings: { ...settings, compressionLevel: 7 } };
  await bench.store.put(document?.key ?? "", record);
  await bench.crash();
  bench.writeBlock(3, 1);
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.match((await bench.status()).settings, {
    compression: 7,
    priority: "normal",
    throttle: null,
    isContinuous: false,
    resync: { mode: "automatic" },
  });
  t.match(readRecord(record), { initialStartAtMs: 0, isResyncOrdered: false });
});

void t.test("what is pending of a suspended VM is known after a restart, too", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.suspend(VM_ID);
  bench.writeBlock(3, 1);
  bench.writeBlock(4, 1);
  await bench.crash();
  const { state, pendingBytes } = await bench.status();
  t.equal(state, "suspended");
  t.equal(pendingBytes, (await bench.progress()).pendingBytes);
  t.ok(pendingBytes > 0);
});
