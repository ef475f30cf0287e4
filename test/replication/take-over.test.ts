/** A replica that becomes another primary's: what the one does, and what the other makes of it. */
import { randomUUID } from "node:crypto";
import t from "tap";
import { successorOf } from "#lib/model/lineage.js";
import { FAR, FAR_ID, FanOutBench } from "./fan-out-bench.js";
import { DISKS, GRANULARITY, VM_ID } from "./simulation/scene.js";

const A_WHILE_MS = 200_000;

/** The VM runs on another host, with other content, and its replica `far` is taken over there. */
async function takenOver(before: FanOutBench, content = 5): Promise<FanOutBench> {
  const taker = new FanOutBench(before.far);
  for (const [index, { sizeBytes }] of DISKS.entries()) {
    const there = before.tracker.contentOf(index).slice();
    taker.tracker.writeUnseen(index, 0, there.subarray(0, sizeBytes));
  }
  taker.tracker.writeUnseen(0, 7 * GRANULARITY, Buffer.alloc(GRANULARITY, content));
  const { generation, head } = await before.far.status(VM_ID);
  const settings = { ...FAR, targetId: randomUUID() };
  const rest = { forkPointId: head?.pointId ?? null, holderId: settings.targetId };
  const to = successorOf(generation, randomUUID(), { ...rest, cause: "taken-over" });
  const status = await before.far.succeed({ vmId: VM_ID, from: generation, to });
  await taker.engine.takeOver(settings, status);
  return taker;
}

void t.test("G7: a replica that is taken over is compared by hash, from its head", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  const before = await bench.far.points(VM_ID);
  const taker = await takenOver(bench);
  const [id = ""] = taker.engine.idsOf(VM_ID);
  const sent: number[] = [];
  taker.farParts.openDelta = (header) => {
    t.not(header.parentPointId, null, "nothing begins anew");
    return bench.far.openDelta(header);
  };
  await taker.cycles(5);
  t.ok(await taker.isEqual(FAR_ID));
  const points = await bench.far.points(VM_ID);
  t.same(points.slice(0, before.length), before, "its points stay");
  t.equal(points[before.length]?.parentPointId, before.at(-1)?.pointId);
  const { lastHealing } = await taker.engine.status(id);
  const wholeBytes = DISKS.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  t.match(lastHealing, { comparedBytes: wholeBytes, differingBytes: GRANULARITY });
  for (const cycle of taker.engine.recentCycles(id)) sent.push(cycle.changedBytes);
  t.ok(
    sent.reduce((sum, each) => sum + each, 0) <= 2 * GRANULARITY,
    `${sent.join()} bytes: what differs, no full copy`,
  );
  await taker.crash();
  taker.writeBlock(2, 9);
  await taker.cycles(5);
  t.ok(await taker.isEqual(FAR_ID), "and it goes on after a restart");
});

void t.test("a replica without a point is taken over by a first copy", async (t) => {
  const bench = new FanOutBench();
  await bench.far.enable({ vmId: VM_ID, name: "guest", disks: DISKS }, { number: 1, id: VM_ID });
  const taker = await takenOver(bench);
  await taker.cycles(5);
  t.ok(await taker.isEqual(FAR_ID));
});

void t.test("T40: whose replica was taken over says so, and its guest goes on", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  bench.writeBlock(3, 1);
  await bench.takeOverThere(FAR_ID);
  const pointCount = (await bench.far.points(VM_ID)).length;
  for (const isRestarted of [false, true]) {
    if (isRestarted) await bench.crash();
    await bench.clock.run(A_WHILE_MS);
    t.same(await bench.states(), ["replicating", "error"]);
    const { lastError } = await bench.engine.status(FAR_ID);
    t.match(lastError, {
      code: "FENCED",
      message: /another host has become the replica's primary/,
    });
    bench.writeBlock(4, 2);
    await bench.cycles(2);
    t.ok(await bench.isEqual(VM_ID), "the other goes on");
    t.equal((await bench.far.points(VM_ID)).length, pointCount);
    t.same(bench.servedChanges, []);
  }
  await bench.failOverThere(FAR_ID);
  await bench.clock.run(A_WHILE_MS);
  t.same(await bench.states(), ["replicating", "failed-over"]);
  t.equal(bench.isServed, false, "its host runs the VM now, whoever was to be its primary");
});

void t.test("what was failed over, given back and taken over is not had there", async (t) => {
  const bench = await FanOutBench.replicatingToBoth();
  await bench.failOverThere(FAR_ID);
  await bench.cycles(5);
  t.equal(bench.isServed, false);
  await bench.cancelThere(FAR_ID);
  await bench.takeOverThere(FAR_ID);
  await bench.clock.run(A_WHILE_MS);
  t.same(await bench.states(), ["replicating", "error"]);
  t.match((await bench.engine.status(FAR_ID)).lastError, { code: "FENCED", message: /primary/ });
  t.equal(bench.isServed, true);
  await bench.engine.handOver(VM_ID);
  await bench.cycles(3);
  t.same(await bench.states(), ["failed-over", "error"]);
});

void t.test(
  "a hand-over that a take-over came before is over, and the guest goes on",
  async (t) => {
    const bench = await FanOutBench.replicatingToBoth();
    const { farParts, far } = bench;
    farParts.succeed = async (succession) => {
      delete farParts.succeed;
      await bench.takeOverThere(FAR_ID);
      return far.succeed(succession);
    };
    await bench.engine.handOver(FAR_ID);
    await bench.cycles(1);
    t.equal(bench.servedChanges[0], false);
    await bench.clock.run(A_WHILE_MS);
    t.same(await bench.states(), ["replicating", "error"]);
    t.equal(bench.isServed, true);
    t.equal((await bench.recordOf(FAR_ID)).handOver, undefined);
  },
);

void t.test(
  "what a host became by a reversal is a replica, and is taken over as one",
  async (t) => {
    const bench = await FanOutBench.replicatingToBoth();
    await bench.failOverThere(FAR_ID);
    const lineage = await bench.lineageOf(FAR_ID);
    const contents = new Map(DISKS.map(({ diskId }, i) => [diskId, bench.tracker.contentOf(i)]));
    const generation = lineage[0]?.generation ?? { number: 1, id: VM_ID };
    const back = new FanOutBench();
    back.far.hadBefore(VM_ID, { generation, contents, isUnchanged: true });
    await back.engine.reverse(FAR, lineage);
    await back.cycles(1);
    t.equal(
      (await back.lineageOf(FAR_ID)).at(-1)?.cause,
      "unplanned-failover",
      "by the other host",
    );
    await back.takeOverThere(FAR_ID);
    await back.clock.run(A_WHILE_MS);
    t.match((await back.engine.status(FAR_ID)).lastError, { code: "FENCED", message: /primary/ });
  },
);

void t.test(
  "what a replica's newest point holds of a disk that came since is compared",
  async (t) => {
    const bench = await FanOutBench.replicatingToBoth();
    const { generation } = await bench.far.status(VM_ID);
    // The disk has gone, its replica has heard that, and no point was made since.
    const [, last = { diskId: "" }] = DISKS;
    await bench.far.enable({ vmId: VM_ID, name: "guest", disks: DISKS.slice(0, 1) }, generation);
    const head = (await bench.far.status(VM_ID)).head?.pointId ?? "";
    t.not(bench.far.contentOf(VM_ID, head, last.diskId)[0], 0, "the point has it still");
    bench.tracker.writeUnseen(1, 0, new Uint8Array(DISKS[1]?.sizeBytes ?? 0));
    const taker = await takenOver(bench);
    await taker.cycles(5);
    t.ok(await taker.isEqual(FAR_ID), "with nothing but zeroes");
  },
);
