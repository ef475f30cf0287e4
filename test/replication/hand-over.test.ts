/** Planned failover, an unplanned one behind this side's back, and getting the VM back. */
import { randomUUID } from "node:crypto";
import t, { type Test } from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { type LineageEntry, presentEntry, successorOf } from "#lib/model/lineage.js";
import { Bench } from "./bench.js";
import { GRANULARITY, VM_ID } from "./simulation/scene.js";

const A_WHILE_MS = 200_000;

const unreachable = () => Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));

async function lineageOf({ replica }: Bench) {
  return (await replica.status(VM_ID)).lineage ?? [];
}

/** As the replica's administrator does it; the VM goes to whoever had it at generation `holderId`. */
async function succeedThere(bench: Bench, cause: LineageEntry["cause"], holderId?: string) {
  const from = presentEntry(await lineageOf(bench)).generation;
  const id = randomUUID();
  const forkPointId = (await bench.head())?.pointId ?? null;
  const to = successorOf(from, id, { forkPointId, holderId: holderId ?? id, cause });
  await bench.replica.succeed({ vmId: VM_ID, from, to });
}

async function isHandedOver(t: Test, bench: Bench): Promise<void> {
  const { state, health, lastError } = await bench.status();
  t.same([state, health, lastError], ["failed-over", "warning", null]);
  t.equal(bench.isServed, false);
  const present = presentEntry(await lineageOf(bench));
  t.match(present, { cause: "planned-failover", forkPointId: (await bench.head())?.pointId });
  t.equal(present.holderId, present.generation.id, "the replica's");
  t.equal((await lineageOf(bench)).length, 2);
  t.ok(await bench.isReplicaEqual(), "nothing is lost");
}

void t.test("G7: a disk that was made smaller since the last cut is handed over so", async (t) => {
  const bench = await Bench.replicating();
  bench.tracker.resizeDisk(0, 10 * GRANULARITY);
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  await isHandedOver(t, bench);
  const pointId = (await bench.head())?.pointId ?? "";
  t.equal(bench.replica.contentOf(VM_ID, pointId, 0).byteLength, 10 * GRANULARITY);
});

void t.test("G7: a planned failover sends what is left, then the replica takes over", async (t) => {
  const bench = await Bench.replicating();
  bench.writeBlock(3, 1);
  const order: string[] = [];
  bench.onServed = async () => {
    // The guest's last write comes while the disks are being taken away.
    if (order.length === 0) bench.writeBlock(5, 77);
    order.push("withheld");
  };
  bench.endpointParts.commit = (request) => {
    order.push("commit");
    return bench.replica.commit(request);
  };
  bench.endpointParts.succeed = (succession) => {
    order.push("succeed");
    return bench.replica.succeed(succession);
  };
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  await isHandedOver(t, bench);
  const first = ["withheld", "commit", "succeed"].map((what) => order.indexOf(what));
  t.ok((first[0] ?? -1) < (first[1] ?? -1) && (first[1] ?? -1) < (first[2] ?? -1), order.join());
});

void t.test("the answer to a hand-over may be lost, and either side may die", async (t) => {
  const bench = await Bench.replicating();
  bench.writeBlock(3, 1);
  let asked = 0;
  bench.endpointParts.succeed = async (succession) => {
    asked += 1;
    await bench.replica.succeed(succession);
    return unreachable();
  };
  await bench.engine.handOver(VM_ID);
  await bench.clock.run(A_WHILE_MS);
  await isHandedOver(t, bench);
  t.equal(asked, 1, "the lineage was the answer");
});

void t.test("T43: a hand-over goes on after a crash between any two of its steps", async (t) => {
  for (let crashAt = 1; crashAt <= 12; crashAt += 1) {
    const bench = await Bench.replicating();
    bench.writeBlock(3, crashAt);
    let step = 0;
    let isOver = false;
    const crashing = async <T>(work: () => Promise<T>): Promise<T> => {
      step += 1;
      if (step === crashAt) {
        isOver = true;
        return new Promise(() => {});
      }
      return work();
    };
    bench.endpointParts.status = (vmId) => crashing(() => bench.replica.status(vmId));
    bench.endpointParts.commit = (request) => crashing(() => bench.replica.commit(request));
    bench.endpointParts.succeed = (succession) =>
      crashing(async () => crashing(() => bench.replica.succeed(succession)));
    bench.storeParts.put = (...put) => crashing(() => bench.store.put(...put));
    void bench.engine.handOver(VM_ID).catch(() => undefined);
    await bench.cycles(3);
    bench.endpointParts.status = (vmId) => bench.replica.status(vmId);
    await bench.crash();
    const { state } = await bench.record();
    await bench.clock.run(A_WHILE_MS);
    if (state === "replicating") t.ok(isOver && bench.isServed, `${crashAt}: it was not begun`);
    else await isHandedOver(t, bench);
  }
});

void t.test("a planned failover is cancelled while the replica has not answered", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.succeed = unreachable;
  bench.writeBlock(3, 1);
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  t.equal((await bench.status()).state, "handing-over");
  await t.rejects(bench.engine.suspend(VM_ID), { code: "CONFLICT" });
  await bench.engine.takeBack(VM_ID);
  await bench.cycles(3);
  t.equal(bench.isServed, false, "the replica may have been asked, and has not answered yet");
  delete bench.endpointParts.succeed;
  await bench.clock.run(A_WHILE_MS);
  t.match(await bench.status(), { state: "replicating", health: "normal" });
  t.equal(bench.isServed, true);
  bench.writeBlock(4, 2);
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.equal((await bench.record()).generation.number, 2);
});

void t.test("a planned failover that the replica has taken cannot be cancelled", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.succeed = async (succession) => {
    await bench.replica.succeed(succession);
    bench.endpointParts.status = unreachable;
    return unreachable();
  };
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  delete bench.endpointParts.succeed;
  await bench.engine.takeBack(VM_ID);
  delete bench.endpointParts.status;
  await bench.clock.run(A_WHILE_MS);
  await isHandedOver(t, bench);
});

void t.test("a replica that knows no lineage is not handed anything", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.status = async (vmId) => {
    const { lineage: _lineage, ...status } = await bench.replica.status(vmId);
    return status;
  };
  await t.rejects(bench.engine.handOver(VM_ID), { code: "UNSUPPORTED", hint: /Update/ });
  bench.writeBlock(3, 1);
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.same(bench.servedChanges, []);
});

void t.test(
  "T40: the replica was promoted: this side's guests are kept away at once",
  async (t) => {
    const bench = await Bench.replicating();
    await succeedThere(bench, "unplanned-failover");
    const before = await bench.pointCount();
    bench.writeBlock(3, 1);
    await bench.cycles(2);
    t.match(await bench.status(), { state: "failed-over", health: "warning", lastError: null });
    t.equal(bench.isServed, false);
    await bench.crash();
    await bench.clock.run(A_WHILE_MS);
    t.equal((await bench.status()).state, "failed-over", "after a restart too");
    t.equal(await bench.pointCount(), before);
    t.ok((await bench.progress()).pendingBytes > 0, "what is not there stays marked");
  },
);

void t.test("T40: also when the answer to the very first commit was lost", async (t) => {
  const bench = new Bench();
  bench.endpointParts.commit = async (request) => {
    if (bench.endpointParts.status !== undefined) return unreachable();
    const point = await bench.replica.commit(request);
    if (point === null) return point;
    bench.endpointParts.status = unreachable;
    bench.endpointParts.enable = unreachable;
    return unreachable();
  };
  await bench.enabled();
  await bench.cycles(2);
  t.equal((await bench.record()).headPointId, null);
  await succeedThere(bench, "unplanned-failover");
  delete bench.endpointParts.status;
  delete bench.endpointParts.enable;
  await bench.clock.run(A_WHILE_MS);
  t.equal((await bench.status()).state, "failed-over");
  t.equal(bench.isServed, false);
});

void t.test(
  "T39: a failover that is cancelled gives the VM back without a full copy",
  async (t) => {
    const bench = await Bench.replicating();
    const { generation } = await bench.record();
    await succeedThere(bench, "unplanned-failover");
    bench.writeBlock(3, 1);
    await bench.cycles(2);
    t.equal(bench.isServed, false);
    await succeedThere(bench, "cancelled", generation.id);
    await bench.clock.run(A_WHILE_MS);
    t.same((await bench.status()).healthReasons, []);
    t.equal((await bench.status()).state, "replicating");
    t.equal(bench.isServed, true);
    t.ok(await bench.isReplicaEqual());
    t.equal((await bench.record()).generation.number, 3);
    const [cycle] = bench.engine.recentCycles(VM_ID).slice(-1);
    t.ok((cycle?.changedBytes ?? 0) <= 8, "only what changed");
  },
);

void t.test("one that is cancelled before this side noticed stops no guest", async (t) => {
  const bench = await Bench.replicating();
  const { generation } = await bench.record();
  await succeedThere(bench, "unplanned-failover");
  await succeedThere(bench, "cancelled", generation.id);
  bench.writeBlock(3, 1);
  await bench.cycles(3);
  t.equal((await bench.status()).state, "replicating");
  t.ok(await bench.isReplicaEqual());
  t.notOk(bench.servedChanges.includes(false));
  await succeedThere(bench, "unplanned-failover");
  await bench.cycles(3);
  t.equal((await bench.status()).state, "failed-over", "by the generation that it has now");
});

void t.test("who got the VM back stays its holder: restarts, and the next failover", async (t) => {
  const bench = await Bench.replicating();
  const { generation } = await bench.record();
  for (let round = 1; round <= 2; round += 1) {
    await succeedThere(bench, "unplanned-failover");
    await bench.cycles(2);
    t.equal(bench.isServed, false);
    await succeedThere(bench, "cancelled", generation.id);
    await bench.clock.run(A_WHILE_MS);
    await bench.crash();
    await bench.clock.run(A_WHILE_MS);
    t.equal((await bench.status()).state, "replicating", `round ${round}`);
    t.equal(bench.isServed, true, `round ${round}`);
  }
});

void t.test("T38: split brain is reported, and both sides are kept as they are", async (t) => {
  const bench = await Bench.replicating();
  bench.replica.setGeneration(VM_ID, { number: 2, id: randomUUID() });
  bench.writeBlock(3, 1);
  await bench.cycles(3);
  const { state, lastError } = await bench.status();
  t.equal(state, "error");
  t.match(lastError, { code: "FENCED", message: /both have gone on/, hint: /Both sides are kept/ });
  t.equal(bench.isServed, true);
  t.equal(await bench.pointCount(), 1);
  t.ok((await bench.progress()).pendingBytes > 0);
});

/** A planned failover whose replica does not answer, whether it has taken over or not. */
async function unanswered(t: Test, hasTakenOver: boolean): Promise<Bench> {
  const bench = await Bench.replicating();
  bench.endpointParts.succeed = async (succession) => {
    if (hasTakenOver) await bench.replica.succeed(succession);
    bench.endpointParts.status = unreachable;
    bench.endpointParts.abandon = unreachable;
    return unreachable();
  };
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  t.equal((await bench.status()).state, "handing-over");
  t.equal(bench.isServed, false);
  return bench;
}

function answersAgain({ endpointParts }: Bench): void {
  delete endpointParts.succeed;
  delete endpointParts.status;
  delete endpointParts.abandon;
}

void t.test("a planned failover without an answer is ended by order, at once", async (t) => {
  for (const crashes of [false, true]) {
    const bench = await unanswered(t, false);
    await bench.engine.takeBackAlone(VM_ID);
    if (crashes) await bench.crash();
    await bench.cycles(1);
    t.equal(bench.isServed, true, "its guests go on");
    bench.writeBlock(4, 2);
    await bench.clock.run(A_WHILE_MS);
    answersAgain(bench);
    await bench.clock.run(A_WHILE_MS);
    t.match(await bench.status(), { state: "replicating", lastError: null });
    t.ok(await bench.isReplicaEqual());
    const lineage = await lineageOf(bench);
    const { generation, handOver } = await bench.record();
    t.same([lineage.length, presentEntry(lineage).generation], [2, generation]);
    t.equal(handOver, undefined);
    await t.rejects(bench.engine.takeBackAlone(VM_ID), { code: "CONFLICT" });
  }
});

void t.test(
  "T38: if the replica had taken over, that is split brain, never one lineage",
  async (t) => {
    const bench = await unanswered(t, true);
    await bench.engine.takeBackAlone(VM_ID);
    await bench.cycles(1);
    bench.writeBlock(4, 2);
    const before = await lineageOf(bench);
    answersAgain(bench);
    await bench.clock.run(A_WHILE_MS);
    const { state, lastError } = await bench.status();
    t.equal(state, "error");
    t.match(lastError, { code: "FENCED", message: /both have gone on by themselves/ });
    t.same(await lineageOf(bench), before, "the replica's stays what it was");
    const theirs = presentEntry(before).generation;
    const ours = (await bench.record()).generation;
    t.equal(theirs.number, ours.number);
    t.not(theirs.id, ours.id);
    t.equal(await bench.pointCount(), 1, "no point came from here");
    t.equal(bench.isServed, true, "as it was ordered");
    t.ok((await bench.progress()).pendingBytes > 0, "what it wrote stays marked");
  },
);

void t.test(
  "a hand-over that arrives after all finds the replica at another generation",
  async (t) => {
    const bench = await unanswered(t, false);
    const { handOver, generation: from } = await bench.record();
    await bench.engine.takeBackAlone(VM_ID);
    answersAgain(bench);
    await bench.clock.run(A_WHILE_MS);
    t.equal((await bench.status()).state, "replicating");
    const to = handOver ?? presentEntry([]);
    await t.rejects(bench.replica.succeed({ vmId: VM_ID, from, to }), { code: "FENCED" });
  },
);
