/** Reverse replication: to the host that had the VM before, with its disks as they stand. */
import { randomUUID } from "node:crypto";
import t from "tap";
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

void t.test("a reversal goes on after lost answers and crashes", async (t) => {
  for (let lost = 1; lost <= 6; lost += 1) {
    const bench = await failedOver("nothing");
    const lineage = lineageOf("planned-failover");
    const { generation } = lineage[0] ?? firstEntry({ number: 0, id: "" });
    const contents = theirs(bench);
    bench.replica.hadBefore(VM_ID, { generation, contents, isUnchanged: true });
    let step = 0;
    const failing = async <T>(work: () => Promise<T>): Promise<T> => {
      step += 1;
      const result = await work();
      if (step === lost) throw new TidemarkError("UNREACHABLE", "the answer is lost");
      return result;
    };
    bench.endpointParts.takeReturned = (vm, of) =>
      failing(() => bench.replica.takeReturned(vm, of));
    bench.trackerParts.addTarget = (id, start) => failing(() => bench.tracker.addTarget(id, start));
    bench.storeParts.put = (...put) => failing(() => bench.store.put(...put));
    await bench.engine.reverse(SETTINGS, lineage).catch(() => undefined);
    await bench.cycles(2);
    await bench.crash();
    bench.writeBlock(4, lost);
    await bench.clock.run(60_000);
    t.equal((await bench.status()).state, "replicating", `${lost}`);
    t.ok(await bench.isReplicaEqual(), `${lost}`);
  }
});

void t.test("a host that never had the VM is not taken for one that had", async (t) => {
  const bench = await failedOver("nothing");
  await bench.engine.reverse(SETTINGS, lineageOf("planned-failover"));
  await bench.cycles(2);
  t.match(await bench.status(), { state: "error", lastError: { code: "NOT_FOUND" } });
  await t.rejects(bench.replica.status(VM_ID), { code: "NOT_FOUND" }, "nothing was made there");
});
