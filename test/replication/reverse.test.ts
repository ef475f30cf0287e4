/** Reverse replication: to the host that had the VM before, with its disks as they stand. */
import { randomUUID } from "node:crypto";
import t from "tap";
import type { DiskMarks } from "#lib/model/disk-marks.js";
import { TidemarkError } from "#lib/model/errors.js";
import { firstEntry, type Lineage, successorOf } from "#lib/model/lineage.js";
import { Bench } from "./bench.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";

function lineageOf(cause: "planned-failover" | "unplanned-failover"): Lineage {
  const first = firstEntry({ number: 1, id: randomUUID() });
  const id = randomUUID();
  const rest = { forkPointId: randomUUID(), holderId: id, cause };
  return [first, successorOf(first.generation, id, rest)];
}

/** A VM that was failed over to this host, with its target added before it wrote anything. */
async function failedOver(start: "nothing" | "suspect"): Promise<Bench> {
  const bench = new Bench();
  await bench.tracker.addTarget(TARGET_ID, start);
  return bench;
}

/** What the other host has: the VM's disks, with these blocks of the first one its own. */
function theirs(bench: Bench, blocks: Readonly<Record<number, number>> = {}) {
  const contents = new Map(
    DISKS.map(({ diskId }, index) => [diskId, Buffer.from(bench.tracker.contentOf(index))]),
  );
  for (const [block, value] of Object.entries(blocks)) {
    const at = Number(block) * GRANULARITY;
    contents.get(DISKS[0]?.diskId ?? "")?.fill(value, at, at + GRANULARITY);
  }
  return contents;
}

void t.test("T39: failover and back without writes costs nothing", async (t) => {
  const bench = await failedOver("nothing");
  const lineage = lineageOf("planned-failover");
  const { generation } = lineage[0] ?? firstEntry({ number: 0, id: "" });
  bench.replica.hadBefore(VM_ID, { generation, contents: theirs(bench), isUnchanged: true });
  await bench.engine.reverse(SETTINGS, lineage);
  await bench.cycles(3);
  t.match(await bench.status(), { state: "replicating", health: "normal", firstCopy: null });
  t.equal(await bench.pointCount(), 1, "the disks as they stood, and nothing new");
  bench.writeBlock(4, 5);
  await bench.cycles(2);
  const [cycle] = bench.engine.recentCycles(VM_ID).slice(-1);
  t.ok((cycle?.changedBytes ?? 0) <= GRANULARITY);
  t.ok(await bench.isReplicaEqual());
  t.same((await bench.replica.status(VM_ID)).lineage, lineage);
});

void t.test("what only the old primary has is found, kept, and not carried on", async (t) => {
  const bench = await failedOver("suspect");
  const lineage = lineageOf("unplanned-failover");
  const { generation } = lineage[0] ?? firstEntry({ number: 0, id: "" });
  const contents = theirs(bench, { 2: 77, 9: 78 });
  bench.replica.hadBefore(VM_ID, { generation, contents, isUnchanged: false });
  bench.writeBlock(4, 5);
  await bench.engine.reverse(SETTINGS, lineage);
  await bench.cycles(3);
  t.ok(await bench.isReplicaEqual());
  const [branch] = await bench.replica.points(VM_ID);
  const kept = bench.replica.contentOf(VM_ID, branch?.pointId ?? "", DISKS[0]?.diskId ?? "");
  t.equal(kept[2 * GRANULARITY], 77, "its late writes are a point of their own");
  t.same(branch?.generation, generation);
  const sent = bench.engine.recentCycles(VM_ID).reduce((sum, each) => sum + each.changedBytes, 0);
  t.ok(sent <= 4 * GRANULARITY, `${sent} bytes: what differs, no full copy`);
});

/** The VM goes on from an earlier point than its newest one, in which block 5 is another. */
async function failedOverBehind(): Promise<Bench> {
  const bench = await failedOver("nothing");
  await bench.tracker.markPending(TARGET_ID, 0, [5 * GRANULARITY, GRANULARITY]);
  return bench;
}

const HEAD_ID = randomUUID();
const [FIRST_DISK = "", ...OTHER_DISKS] = DISKS.map(({ diskId }) => diskId);

function marked(changed: readonly number[], suspect: readonly number[] = []): DiskMarks[] {
  const blocks = (list: readonly number[]) => list.flatMap((at) => [at * GRANULARITY, GRANULARITY]);
  const nothing = OTHER_DISKS.map((diskId) => ({ diskId, changed: [], suspect: [] }));
  return [{ diskId: FIRST_DISK, changed: blocks(changed), suspect: blocks(suspect) }, ...nothing];
}

function oldPrimary(bench: Bench, marks: readonly DiskMarks[], blocks = { 2: 77, 5: 50, 9: 78 }) {
  const lineage = lineageOf("unplanned-failover");
  const { generation } = lineage[0] ?? firstEntry({ number: 0, id: "" });
  const head = { pointId: HEAD_ID, marks };
  const contents = theirs(bench, blocks);
  bench.replica.hadBefore(VM_ID, { generation, contents, isUnchanged: false, head });
  return lineage;
}

void t.test("what the old primary knows of its late writes is not compared", async (t) => {
  const bench = await failedOverBehind();
  // Of what is suspect there, block 9 differs and block 12 does not.
  const lineage = oldPrimary(bench, marked([2], [9, 12]));
  bench.writeBlock(4, 5);
  await bench.engine.reverse(SETTINGS, lineage, HEAD_ID);
  await bench.cycles(3);
  t.ok(await bench.isReplicaEqual());
  const { lastHealing } = await bench.status();
  t.match(lastHealing, { comparedBytes: 2 * GRANULARITY, differingBytes: GRANULARITY });
  t.same(lastHealing?.causes, ["replica differs"]);
  const sent = bench.engine.recentCycles(VM_ID).reduce((sum, each) => sum + each.changedBytes, 0);
  t.equal(sent, 4 * GRANULARITY, "2, 4, 5 and 9");
  const [branch] = await bench.replica.points(VM_ID);
  const kept = bench.replica.contentOf(VM_ID, branch?.pointId ?? "", FIRST_DISK);
  t.same([kept[2 * GRANULARITY], kept[9 * GRANULARITY]], [77, 78], "kept in the branch's point");
});

void t.test("whatever is not known is compared", async (t) => {
  const wholeBytes = DISKS.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const firstBytes = DISKS[0]?.sizeBytes ?? 0;
  const ofOthers = marked([]).slice(1);
  for (const [what, headId, marks, comparedBytes] of [
    ["of another point", randomUUID(), marked([2, 9]), wholeBytes],
    ["of none", undefined, marked([2, 9]), wholeBytes],
    ["not of a disk", HEAD_ID, ofOthers, firstBytes],
  ] as const) {
    const bench = await failedOverBehind();
    const lineage = oldPrimary(bench, marks);
    await bench.engine.reverse(SETTINGS, lineage, headId);
    await bench.cycles(3);
    t.ok(await bench.isReplicaEqual(), what);
    t.equal((await bench.status()).lastHealing?.comparedBytes, comparedBytes, what);
  }
});

void t.test("of what a target that was lost had marked nothing is known", async (t) => {
  const bench = await failedOverBehind();
  const lineage = oldPrimary(bench, marked([2, 9]));
  bench.writeBlock(4, 5);
  await bench.tracker.removeTarget(TARGET_ID);
  await bench.engine.reverse(SETTINGS, lineage, HEAD_ID);
  await bench.cycles(3);
  t.ok(await bench.isReplicaEqual());
});

void t.test("a host that lost the VM says what it has beyond the replica's head", async (t) => {
  const bench = await Bench.replicating();
  await bench.cycles(2);
  const formerHeadId = (await bench.head())?.pointId ?? "";
  const forkPointId = formerHeadId;
  bench.writeBlock(3, 33);
  bench.tracker.suspect(0, 7 * GRANULARITY, GRANULARITY, "power loss");
  const differences = await bench.engine.letGo(VM_ID, { forkPointId, formerHeadId });
  t.equal(differences.isUnchanged, false);
  t.same(differences.marks?.[0], marked([3], [7])[0]);
  const unknown = { forkPointId, formerHeadId: randomUUID() };
  t.equal((await bench.engine.letGo(VM_ID, unknown)).marks, null, "another head");
  const none = { forkPointId, formerHeadId: undefined };
  t.equal((await bench.engine.letGo(VM_ID, none)).marks, null, "no head");
});

void t.test("a head that was asked for and not heard of is known as well", async (t) => {
  const bench = await Bench.replicating();
  await bench.cycles(2);
  bench.writeBlock(3, 33);
  let isLost = false;
  bench.endpointParts.commit = async (request) => {
    await bench.replica.commit(request);
    isLost = true;
    throw new TidemarkError("UNREACHABLE", "the answer is lost");
  };
  bench.endpointParts.status = () => Promise.reject(new TidemarkError("UNREACHABLE", "away"));
  await bench.cycles(1);
  t.ok(isLost);
  const formerHeadId = (await bench.head())?.pointId ?? "";
  t.not((await bench.record()).headPointId, formerHeadId);
  bench.writeBlock(6, 66);
  const { marks } = await bench.engine.letGo(VM_ID, { forkPointId: formerHeadId, formerHeadId });
  t.same(marks?.[0], marked([3, 6])[0], "more than it lacks, never less");
});

void t.test("marks that say too little are not believed", async (t) => {
  const bench = await failedOver("nothing");
  const lineage = lineageOf("planned-failover");
  const { generation } = lineage[0] ?? firstEntry({ number: 0, id: "" });
  bench.replica.hadBefore(VM_ID, {
    generation,
    contents: theirs(bench, { 2: 77 }),
    isUnchanged: false,
  });
  await bench.engine.reverse(SETTINGS, lineage);
  await bench.cycles(3);
  t.ok(await bench.isReplicaEqual());
});

/** The answer to the step of that number is lost, and then the process dies. */
async function interrupted(bench: Bench, lost: number, reverse: () => Promise<void>) {
  let step = 0;
  const failing = async <T>(work: () => Promise<T>): Promise<T> => {
    step += 1;
    const result = await work();
    if (step === lost) throw new TidemarkError("UNREACHABLE", "the answer is lost");
    return result;
  };
  const { replica, tracker, store } = bench;
  bench.endpointParts.takeReturned = (request) => failing(() => replica.takeReturned(request));
  bench.trackerParts.addTarget = (id, start) => failing(() => tracker.addTarget(id, start));
  bench.trackerParts.addMarks = (id, marks) => failing(() => tracker.addMarks(id, marks));
  bench.storeParts.put = (...put) => failing(() => store.put(...put));
  await reverse().catch(() => undefined);
  await bench.cycles(2);
  await bench.crash();
  bench.writeBlock(4, lost);
  await bench.clock.run(60_000);
}

void t.test("a reversal goes on after lost answers and crashes", async (t) => {
  for (let lost = 1; lost <= 6; lost += 1) {
    const bench = await failedOver("nothing");
    const lineage = lineageOf("planned-failover");
    const { generation } = lineage[0] ?? firstEntry({ number: 0, id: "" });
    const contents = theirs(bench);
    bench.replica.hadBefore(VM_ID, { generation, contents, isUnchanged: true });
    await interrupted(bench, lost, () => bench.engine.reverse(SETTINGS, lineage));
    t.equal((await bench.status()).state, "replicating", `${lost}`);
    t.ok(await bench.isReplicaEqual(), `${lost}`);
  }
});

void t.test("marks that were exchanged survive lost answers and crashes", async (t) => {
  for (let lost = 1; lost <= 6; lost += 1) {
    const bench = await failedOverBehind();
    const lineage = oldPrimary(bench, marked([2, 9]));
    await interrupted(bench, lost, () => bench.engine.reverse(SETTINGS, lineage, HEAD_ID));
    const { state, lastHealing } = await bench.status();
    t.equal(state, "replicating", `${lost}`);
    t.ok(await bench.isReplicaEqual(), `${lost}`);
    t.equal(lastHealing, null, `${lost}: nothing had to be compared`);
  }
});

void t.test("a host that never had the VM is not taken for one that had", async (t) => {
  const bench = await failedOver("nothing");
  await bench.engine.reverse(SETTINGS, lineageOf("planned-failover"));
  await bench.cycles(2);
  t.match(await bench.status(), { state: "error", lastError: { code: "NOT_FOUND" } });
  await t.rejects(bench.replica.status(VM_ID), { code: "NOT_FOUND" }, "nothing was made there");
});
