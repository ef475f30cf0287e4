import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { A, B, GROUP, GroupBench, settingsOf } from "./group-bench.js";

const failure = () => Promise.reject(new TidemarkError("IO_ERROR", "The disk is gone."));
const timeout = () => Promise.reject(new TidemarkError("TIMED_OUT", "A write does not end."));

void t.test("the VMs of a group are cut together, cycle after cycle", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.cycles(5);
  const cuts = await bench.groupPoints();
  t.equal(cuts.length, 5);
  t.ok(cuts.every(({ isComplete }) => isComplete));
  for (const vmId of [A, B]) {
    const points = await bench.replica.points(vmId);
    t.same(points[0]?.group, undefined, "the first copy is the VM's own matter");
    for (const { group } of points.slice(1)) t.same(group?.takenVmIds, [A, B]);
  }
  t.match(bench.group(), { vmIds: [A, B], cutCount: 5, incompleteCutCount: 0 });
  t.equal(bench.group()?.pauses.count, 5);
  t.equal((await bench.engine.status(A)).pauses.count, 7, "its own drain and first cut, and five");
  await bench.engine.close();
});

void t.test("the points of one cut hold the disks of both at one instant", async (t) => {
  const bench = await GroupBench.replicating();
  const at = new Map<number, Buffer[]>();
  const { tracker } = bench.vm(A);
  bench.vm(A).trackerParts.checkpoint = (targetId, options) => {
    const both = [A, B].map((vmId) => Buffer.from(bench.vm(vmId).tracker.contentOf(0)));
    at.set(options?.group?.cutNumber ?? 0, both);
    return tracker.checkpoint(targetId, options);
  };
  await bench.cycles(4);
  const cuts = await bench.groupPoints();
  t.equal(cuts.length, 4);
  for (const { cutNumber, points } of cuts) {
    const found = points.map(({ vmId, pointId }) =>
      Buffer.from(bench.replica.contentOf(vmId, pointId ?? "", 0)),
    );
    t.same(found, at.get(cutNumber));
  }
  await bench.engine.close();
});

void t.test("the point of a VM without writes stands for every cut since", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.cycles(1);
  await bench.cycles(4, [A]);
  t.equal(await bench.pointCount(B), 2);
  const cuts = await bench.groupPoints();
  t.equal(cuts.length, 5);
  t.ok(cuts.every(({ isComplete }) => isComplete));
  await bench.engine.close();
});

void t.test("a member whose disk is gone does not hold up the others", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.cycles(2);
  bench.vm(B).trackerParts.checkpoint = failure;
  await bench.cycles(5);
  t.equal(await bench.pointCount(A), 8, "each interval has its point");
  const cuts = await bench.groupPoints();
  t.same(
    cuts.map(({ isComplete }) => isComplete),
    [true, true, false, false, false, false, false],
  );
  const head = (await bench.replica.points(A)).at(-1);
  t.same(head?.group?.memberVmIds, [A, B]);
  t.same(head?.group?.takenVmIds, [A], "the point says which it was cut with");
  t.equal(bench.group()?.incompleteCutCount, 5);

  delete bench.vm(B).trackerParts.checkpoint;
  await bench.cycles(4);
  const after = await bench.groupPoints();
  t.same(
    after.slice(-2).map(({ isComplete }) => isComplete),
    [true, true],
    "it is back",
  );
  await bench.engine.close();
});

void t.test("a member whose writes never end is left out after the box has grown", async (t) => {
  const bench = await GroupBench.replicating();
  bench.vm(B).trackerParts.checkpoint = timeout;
  await bench.cycles(12);
  const stuck = await bench.pointCount(A);
  await bench.cycles(5);
  t.equal((await bench.pointCount(A)) - stuck, 5, "the other has a point each interval");
  const { healthReasons } = await bench.engine.status(A);
  t.notOk(
    healthReasons.some((reason) => reason.includes("Slow storage")),
    "the box is what it was",
  );
  const { maxNs } = (await bench.engine.status(A)).pauses;
  t.equal(maxNs, 800e6, "the missed cuts held it too, and count");
  await bench.engine.close();
});

void t.test("a suspended member is not waited for", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.cycles(1);
  await bench.engine.suspend(B);
  const before = bench.clock.monotonicMs();
  await bench.cycles(3, [A]);
  t.equal(await bench.pointCount(A), 5);
  const { lagMs } = await bench.engine.status(A);
  t.ok((lagMs ?? 9999) <= 1000, `${lagMs} ms at ${bench.clock.monotonicMs() - before}`);
  await bench.engine.resume(B);
  await bench.cycles(3);
  t.ok((await bench.groupPoints()).at(-1)?.isComplete);
  await bench.engine.close();
});

void t.test("a member that sends too slowly is waited for an interval, no longer", async (t) => {
  const bench = await GroupBench.replicating();
  const { replica } = bench;
  bench.vm(B).endpointParts.putSegment = async (source, signal) => {
    await bench.clock.sleep(10_000, signal);
    return replica.putSegment(source, signal);
  };
  await bench.cycles(20);
  const cuts = await bench.groupPoints();
  t.ok((await bench.pointCount(A)) >= 10, `${await bench.pointCount(A)} points`);
  t.ok(
    cuts.some(({ isComplete }) => isComplete),
    "sometimes it is there",
  );
  await bench.engine.close();
});

void t.test("when a capture breaks, that cut lacks this member's point", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.cycles(1);
  const { tracker } = bench.vm(B);
  bench.vm(B).trackerParts.checkpoint = async (targetId, options) => {
    delete bench.vm(B).trackerParts.checkpoint;
    const changes = await tracker.checkpoint(targetId, options);
    tracker.suspect(0, 0, 8, "lost writes");
    return changes;
  };
  await bench.cycles(3);
  const cuts = await bench.groupPoints();
  const [broken] = cuts.filter(({ isComplete }) => !isComplete);
  t.match(broken?.points, [{ vmId: A }, { vmId: B, pointId: null }]);
  t.ok(cuts.at(-1)?.isComplete, "the next ones have it again");
  await bench.engine.close();
});

void t.test("a group has one interval, and a VM leaves it and joins another", async (t) => {
  const bench = await GroupBench.replicating();
  const other = { ...settingsOf("cccccccc-cccc-4ccc-8ccc-cccccccccccc"), intervalMs: 5000 };
  await t.rejects(bench.engine.enable(other), { code: "INVALID_ARGUMENT" });
  await bench.cycles(1);
  const groupId = bench.group()?.lastCut?.groupId;
  await bench.engine.setGroup(B, null);
  await bench.cycles(2);
  t.same((await bench.replica.points(B)).at(-1)?.group, undefined);
  t.same(bench.group()?.vmIds, [A]);
  await bench.engine.setGroup(A, null);
  t.same(bench.engine.groups(), []);
  for (const vmId of [A, B]) await bench.engine.setGroup(vmId, GROUP);
  await bench.cycles(2);
  t.not(bench.group()?.lastCut?.groupId, groupId, "made anew, it is another group");
  t.ok((await bench.groupPoints()).at(-1)?.isComplete);
  await bench.engine.close();
});

void t.test("after a restart of the service the cuts go on rising", async (t) => {
  const bench = await GroupBench.replicating();
  await bench.cycles(2);
  const before = bench.group()?.lastCut;
  await bench.engine.close();
  bench.engine = bench.newEngine();
  await bench.engine.start();
  await bench.cycles(3);
  const after = bench.group()?.lastCut;
  t.equal(after?.groupId, before?.groupId);
  t.ok((after?.cutNumber ?? 0) > (before?.cutNumber ?? 0));
  t.same(after?.takenVmIds, [A, B]);

  const aheadOfTheClock = { groupId: before?.groupId, lastCutNumber: 2 ** 52 };
  await bench.store.put(`groups/${GROUP}`, aheadOfTheClock);
  await bench.cycles(1);
  t.equal(bench.group()?.lastCut?.cutNumber, 2 ** 52 + 1);
  await bench.engine.close();
});
