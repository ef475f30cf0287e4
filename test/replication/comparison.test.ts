/** Comparing a running VM's disks with its replica, and repairing what differs. */
import t from "tap";
import { lengthOf } from "#lib/model/block-hashes.js";
import { TidemarkError } from "#lib/model/errors.js";
import { Bench } from "./bench.js";
import { DISKS, GRANULARITY, GUEST_DISK, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";

const LIMITS = { limits: { comparisonBytes: 4 * GRANULARITY } };
const TOTAL_BYTES = DISKS.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);

/** A bit of the newest point flips at the replica. */
async function rot(bench: Bench, diskIndex: number, block: number): Promise<void> {
  const pointId = (await bench.head())?.pointId ?? "";
  const content = bench.replica.contentOf(VM_ID, pointId, diskIndex);
  content[block * GRANULARITY + 1] = (content[block * GRANULARITY + 1] ?? 0) ^ 4;
}

async function compared(bench: Bench, isRepair = false) {
  await bench.engine.compare(VM_ID, isRepair);
  await bench.cycles(3);
  const { comparison } = await bench.status();
  if (comparison === null) throw new Error("nothing was compared");
  return comparison;
}

const differing = ({ disks }: Awaited<ReturnType<typeof compared>>) =>
  disks.flatMap(({ name, extents }) => (extents.length === 0 ? [] : [[name, extents]]));

void t.test("equal disks: every byte is compared and nothing differs", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  const report = await compared(bench);
  t.match(report, { state: "done", comparedBytes: TOTAL_BYTES, totalBytes: TOTAL_BYTES });
  t.match(report, { differingBytes: 0, writtenBytes: 0, waitsFor: null });
});

void t.test("it begins when it is ordered, however far the next cycle is", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  await bench.cycles(1.5);
  const { cycleCount } = await bench.status();
  await bench.engine.compare(VM_ID, false);
  await bench.clock.run(SETTINGS.intervalMs / 4);
  t.match(await bench.status(), { cycleCount, comparison: { state: "done" } });
  await bench.cycles(1);
  t.match(await bench.status(), { cycleCount: cycleCount + 1, missedCycleCount: 0 });
});

void t.test("a disk that comes meanwhile is compared too; nothing is counted twice", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  await rot(bench, 0, 5);
  let answers = 0;
  bench.endpointParts.blockHashes = async (request, signal) => {
    answers += 1;
    if (answers > 6) await bench.clock.sleep(SETTINGS.intervalMs, signal);
    return bench.replica.blockHashes(request);
  };
  await bench.engine.compare(VM_ID, false);
  await bench.clock.run(10);
  const added = bench.engine.changeDisks(VM_ID, async () =>
    bench.tracker.addDisk(GUEST_DISK, Buffer.alloc(GUEST_DISK.sizeBytes, 7)),
  );
  await bench.clock.run(1);
  await added;
  answers = Number.NEGATIVE_INFINITY;
  await bench.cycles(6);
  const { comparison } = await bench.status();
  const comparedBytes = TOTAL_BYTES + GUEST_DISK.sizeBytes;
  t.match(comparison, { state: "done", comparedBytes, totalBytes: comparedBytes });
  t.match(comparison, { differingBytes: GRANULARITY });
});

void t.test("what rotted at the replica is found, and nothing is changed", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  await rot(bench, 0, 5);
  await rot(bench, 1, 6);
  const report = await compared(bench);
  t.same(differing(report), [
    ["vda", [5 * GRANULARITY, GRANULARITY]],
    ["vdb", [6 * GRANULARITY, 3]],
  ]);
  t.equal(report.differingBytes, GRANULARITY + 3);
  t.equal(await bench.pointCount(), 1, "no point came of it");
  t.match(await bench.progress(), { pendingBytes: 0, suspectBytes: 0 });
  t.notOk(await bench.isReplicaEqual());
});

void t.test("--repair: the next point is right, and the rotten one stays as it is", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  await rot(bench, 0, 5);
  const before = await bench.head();
  const rotten = Buffer.from(bench.replica.contentOf(VM_ID, before?.pointId ?? "", 0));
  const report = await compared(bench, true);
  t.equal(report.differingBytes, GRANULARITY);
  t.equal(await bench.pointCount(), 2);
  t.equal((await bench.head())?.changedBytes, GRANULARITY, "only what differed travelled");
  t.ok(await bench.isReplicaEqual());
  t.ok(rotten.equals(bench.replica.contentOf(VM_ID, before?.pointId ?? "", 0)), "G5");
  t.equal((await compared(bench)).differingBytes, 0);
});

void t.test("a write that no filter saw is found, too", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  bench.tracker.writeUnseen(0, 9 * GRANULARITY, Buffer.alloc(GRANULARITY, 1));
  t.same(differing(await compared(bench)), [["vda", [9 * GRANULARITY, GRANULARITY]]]);
});

void t.test("what is written meanwhile is no difference, whenever it is written", async (t) => {
  for (const moment of ["before the answer", "after the answer"]) {
    const bench = await Bench.replicating(LIMITS);
    let asked = 0;
    bench.endpointParts.blockHashes = async (request) => {
      asked += 1;
      // Of the piece that is being compared, and of others.
      const write = () => {
        bench.writeBlock((4 * (asked - 1) + 1) % 24, 100 + asked);
        bench.writeBlock((asked * 7) % 24, asked);
      };
      if (moment === "before the answer") write();
      const answer = await bench.replica.blockHashes(request);
      if (moment === "after the answer") write();
      return answer;
    };
    const report = await compared(bench);
    t.match(report, { state: "done", differingBytes: 0 }, moment);
    t.ok(asked > 6, "in pieces");
  }
});

void t.test("written blocks are left out: they differ because they were written", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  const disks = bench.tracker;
  bench.trackerParts.compareContent = (targetId, diskIndex, ask, range) => {
    if (diskIndex === 0 && range.fromBytes === 0) bench.writeBlock(2, 77);
    return disks.compareContent(targetId, diskIndex, ask, range);
  };
  const report = await compared(bench);
  t.match(report, { differingBytes: 0, writtenBytes: GRANULARITY });
});

void t.test(
  "pieces are compared with the point of their moment: cycles go on between",
  async (t) => {
    const bench = await Bench.replicating(LIMITS);
    const asked = new Set<string>();
    bench.endpointParts.blockHashes = async (request) => {
      asked.add(request.pointId);
      await bench.clock.sleep(SETTINGS.intervalMs);
      return bench.replica.blockHashes(request);
    };
    await rot(bench, 0, 20);
    await bench.engine.compare(VM_ID, false);
    for (let n = 0; n < 20; n += 1) {
      bench.writeBlock(n % 8, n);
      await bench.cycles(2);
    }
    const { comparison } = await bench.status();
    t.match(comparison, { state: "done", differingBytes: GRANULARITY });
    t.ok(asked.size > 3, `${asked.size} points`);
    t.ok((await bench.pointCount()) > 10, "G4: the points kept coming");
  },
);

void t.test("a replica that does not answer: it says so, waits, and goes on", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  bench.endpointParts.blockHashes = () =>
    Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));
  const waiting = await compared(bench);
  t.match(waiting, { state: "running", waitsFor: "the line is down", comparedBytes: 0 });
  t.equal(bench.of("error").length, 0, "replication goes on");
  await t.rejects(bench.engine.compare(VM_ID, false), { code: "IN_USE" });
  delete bench.endpointParts.blockHashes;
  await bench.cycles(3);
  t.match((await bench.status()).comparison, { state: "done", waitsFor: null });
});

void t.test("nothing is compared while nothing replicates", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  await bench.engine.suspend(VM_ID);
  await t.rejects(bench.engine.compare(VM_ID, false), { code: "CONFLICT" });
  t.equal((await bench.status()).comparison, null);
});

void t.test("it can be stopped; the last whole one is known after a crash", async (t) => {
  const bench = await Bench.replicating(LIMITS);
  await rot(bench, 0, 5);
  const done = await compared(bench);
  await bench.engine.compare(VM_ID, false);
  await bench.engine.stopComparison(VM_ID);
  t.match((await bench.status()).comparison, { state: "stopped" });
  await bench.crash();
  t.same((await bench.status()).comparison, done);
});

void t.test("T28: what the replica finds damaged of its newest point comes again", async (t) => {
  const bench = await Bench.replicating({ limits: { damageCheckMs: 2000 } });
  const [vda] = DISKS;
  await rot(bench, 0, 5);
  const damaged = (await bench.head())?.pointId;
  bench.endpointParts.status = async (vmId) => {
    const status = await bench.replica.status(vmId);
    const extents = [5 * GRANULARITY, GRANULARITY, 22 * GRANULARITY, 99 * GRANULARITY];
    const headDamage = [{ diskId: vda?.diskId ?? "", extents }];
    return status.head?.pointId === damaged ? { ...status, headDamage } : status;
  };
  await bench.cycles(4);
  t.equal(await bench.pointCount(), 2);
  t.equal((await bench.head())?.changedBytes, 3 * GRANULARITY, "to the disk's end, and no more");
  t.ok(await bench.isReplicaEqual());
  await bench.cycles(8);
  t.equal(await bench.pointCount(), 2, "once");
});

void t.test("the reference tracker counts as written what any map marks", async (t) => {
  const bench = await Bench.replicating();
  const { tracker } = bench;
  // Of blocks that nothing has.
  const ask = async (_: number, [, length = 0]: readonly number[], blockBytes: number) =>
    Buffer.alloc(32 * Math.ceil(length / blockBytes));
  const pass = () =>
    tracker.compareContent(TARGET_ID, 0, ask, { fromBytes: 0, limitBytes: 24 * GRANULARITY });
  bench.writeBlock(1, 1);
  await (await tracker.drain(TARGET_ID)).stage();
  bench.writeBlock(2, 1);
  await tracker.drain(TARGET_ID);
  bench.writeBlock(3, 1);
  tracker.suspect(0, 4 * GRANULARITY, 1, "ordered");
  await tracker.markPending(TARGET_ID, 0, [5 * GRANULARITY, GRANULARITY]);
  const { differing: found, writtenBytes, nextBytes } = await pass();
  t.equal(nextBytes, 24 * GRANULARITY);
  t.equal(writtenBytes, 5 * GRANULARITY);
  t.equal(lengthOf(found), 19 * GRANULARITY);
});
