/** A replica that is replicated on: what arrives is what its points hold, whatever happens to them. */
import { randomUUID } from "node:crypto";
import { readdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { presentEntry, successorOf } from "#lib/model/lineage.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
import { runVmTrackerContract } from "../contracts/vm-tracker.js";
import { SeededRandom } from "../support/seeded-random.js";
import { type CycleEnd, Forwarder } from "./support/forwarder.js";
import { keepNewest } from "./support/keep-newest.js";
import { memoryDirectory, openNativeStore } from "./support/native-scene.js";
import {
  BLOCK_COUNT,
  type Blocks,
  ExpectedDisks,
  GRANULARITY,
  readBlocks,
  Scene,
} from "./support/scene.js";

/** A VM on a replica, what each of its points must hold, and a third host. */
class Chain {
  readonly scene = new Scene();
  readonly root: string;
  readonly from: ReplicaStore;
  readonly to: ReplicaStore;
  readonly forwarder: Forwarder;
  /** By cut. */
  readonly expected = new Map<number, ExpectedDisks>();
  headPointId: string | null = null;
  #content = new ExpectedDisks();
  #cutSequence = 0;

  private constructor(root: string, from: ReplicaStore, to: ReplicaStore) {
    this.root = root;
    this.from = from;
    this.to = to;
    this.forwarder = new Forwarder(from, to, this.scene.vm.vmId);
  }

  static async begin(t: Test): Promise<Chain> {
    const root = await memoryDirectory(t);
    const from = await openNativeStore(t, join(root, "from"));
    const to = await openNativeStore(t, join(root, "to"));
    const chain = new Chain(root, from, to);
    await from.enable(chain.scene.vm, chain.scene.generation);
    t.teardown(() => chain.forwarder.close());
    return chain;
  }

  get vmId(): string {
    return this.scene.vm.vmId;
  }

  get directory(): string {
    return join(this.root, "from", "vms", this.vmId, "extended");
  }

  async point(blocks: Blocks): Promise<void> {
    const point = await this.scene.point(this.from, this.headPointId, blocks);
    this.headPointId = point.pointId;
    this.#content = this.#content.with(blocks);
    this.#cutSequence = point.cutSequence;
    this.expected.set(point.cutSequence, this.#content);
  }

  /** Nothing changed until then. */
  async emptyCycle(): Promise<void> {
    const header = this.scene.header({ parentPointId: this.headPointId });
    await this.scene.deliver(this.from, header, {});
  }

  async check(t: Test): Promise<void> {
    const points = await this.to.points(this.vmId);
    for (const { pointId, cutSequence } of points) {
      const found = await readBlocks(this.to, binding, this.vmId, pointId);
      t.same(found, this.expected.get(cutSequence)?.values, `the point of cut ${cutSequence}`);
    }
    t.equal(points.at(-1)?.cutSequence, this.#cutSequence, "the newest is there");
  }
}

const ENDS: readonly CycleEnd[] = ["committed", "committed", "given back", "answer lost"];

async function someStep(chain: Chain, random: SeededRandom): Promise<void> {
  const block = () => random.below(BLOCK_COUNT);
  const value = () => random.below(4);
  const { forwarder } = chain;
  switch (random.below(7)) {
    case 0:
    case 1:
      return chain.point({ 0: { [block()]: value() }, 1: { [block()]: value(), [block()]: 9 } });
    case 2:
      return chain.point({ 1: { [block()]: value() } });
    case 3:
      await keepNewest(chain.from, chain.vmId, 1 + random.below(3));
      return;
    case 4:
      // As a host's start does before anything is given up.
      await forwarder.close();
      await forwarder.tracker();
      return;
    case 5:
      return chain.emptyCycle();
    default:
      await forwarder.cycle(ENDS[random.below(ENDS.length)] ?? "committed");
  }
}

void t.test("T26: every point that arrives is one of the replica's, byte for byte", async (t) => {
  for (let seed = 1; seed <= 6; seed += 1) {
    await t.test(`seed ${seed}`, async (t) => {
      const random = new SeededRandom(seed);
      const chain = await Chain.begin(t);
      await chain.point({ 0: { 0: 1, 3: 2 }, 1: { [BLOCK_COUNT - 1]: 3 } });
      await chain.forwarder.begin();
      for (let step = 0; step < 40; step += 1) await someStep(chain, random);
      await chain.forwarder.cycle("committed");
      await chain.check(t);
      await keepNewest(chain.from, chain.vmId, 1);
      t.equal((await chain.from.points(chain.vmId)).length, 1, "nothing is held back for ever");
    });
  }
});

void t.test(
  "a point bears the time of the replica's, and a cycle without changes extends it",
  async (t) => {
    const chain = await Chain.begin(t);
    await chain.point({ 0: { 1: 1 } });
    await chain.forwarder.begin();
    await chain.point({ 0: { 1: 2 } });
    const there = await chain.forwarder.cycle("committed");
    const here = (await chain.from.status(chain.vmId)).head;
    t.equal(there.takenAtMs, here?.takenAtMs);
    t.equal(there.cutSequence, here?.cutSequence);
    await chain.emptyCycle();
    const extended = await chain.forwarder.cycle("committed");
    const now = (await chain.from.status(chain.vmId)).head;
    t.equal(extended.pointId, there.pointId);
    t.equal(extended.validUntilMs, now?.validUntilMs);
    t.ok(extended.validUntilMs > extended.takenAtMs);
  },
);

void t.test(
  "T26: what is being sent is not given up, and what comes meanwhile waits",
  async (t) => {
    const chain = await Chain.begin(t);
    await chain.point({ 0: { 1: 1 } });
    await chain.forwarder.begin();
    await chain.point({ 0: { 2: 2 } });
    const tracker = await chain.forwarder.tracker();
    const { targetId } = chain.forwarder;
    const changes = await tracker.checkpoint(targetId);
    const sent = chain.headPointId;
    await chain.point({ 0: { 3: 3 }, 1: { 3: 3 } });
    await tracker.advance();
    await keepNewest(chain.from, chain.vmId, 1);
    const kept = (await chain.from.points(chain.vmId)).map(({ pointId }) => pointId);
    t.same(kept, [sent, chain.headPointId]);
    t.equal((await tracker.progress(targetId)).inFlightBytes, GRANULARITY);
    await changes.giveBack();
    t.equal((await tracker.progress(targetId)).pendingBytes, 3 * GRANULARITY);
    await keepNewest(chain.from, chain.vmId, 1);
    t.equal((await chain.from.points(chain.vmId)).length, 1);
    await chain.forwarder.cycle("committed");
    await chain.check(t);
  },
);

void t.test("T12: of lost or damaged marks nothing is believed", async (t) => {
  const chain = await Chain.begin(t);
  await chain.point({ 0: { 1: 1 }, 1: { 1: 1 } });
  await chain.forwarder.begin();
  const { forwarder } = chain;
  const { targetId } = forwarder;
  await forwarder.close();
  await chain.point({ 0: { 1: 2 } });
  const [vda, vdb] = chain.scene.vm.disks;
  await truncate(join(chain.directory, `${vda?.diskId ?? ""}.tidemark`), 8192);
  t.notOk(await (await forwarder.tracker()).hasTarget(targetId), "a bitmap that was cut");
  await (await forwarder.tracker()).addTarget(targetId, "suspect");
  await forwarder.cycle("committed");
  await chain.check(t);

  await forwarder.close();
  await writeFile(join(chain.directory, "marked.json"), "no document");
  const anew = await forwarder.tracker();
  t.notOk(await anew.hasTarget(targetId), "not known to which point they are marked");
  t.same(
    (await readdir(chain.directory)).filter((name) => name.includes(vdb?.diskId ?? "-")).length,
    1,
  );
});

void t.test("after a failover to the replica its marks are void", async (t) => {
  const chain = await Chain.begin(t);
  await chain.point({ 0: { 1: 1 } });
  await chain.forwarder.begin();
  const tracker = await chain.forwarder.tracker();
  const { vmId, from } = chain;
  const first = presentEntry(from.lineage(vmId));
  const id = randomUUID();
  const taken = successorOf(first.generation, id, {
    forkPointId: chain.headPointId,
    holderId: id,
    cause: "unplanned-failover",
  });
  await from.succeed({ vmId, from: first.generation, to: taken });
  await t.rejects(tracker.advance(), { code: "CONFLICT", retryable: true });
  t.equal(chain.forwarder.otherCount, 1);
  await chain.forwarder.close();
  await t.rejects(chain.forwarder.tracker(), {
    code: "CONFLICT",
    message: /failed over to this host/,
  });
  const back = successorOf(taken.generation, randomUUID(), {
    forkPointId: chain.headPointId,
    holderId: first.holderId,
    cause: "cancelled",
  });
  await from.succeed({ vmId, from: taken.generation, to: back });
  const anew = await chain.forwarder.tracker();
  t.notOk(await anew.hasTarget(chain.forwarder.targetId), "it may have run here meanwhile");
});

void t.test("of other disks the others go on", async (t) => {
  const chain = await Chain.begin(t);
  await chain.point({ 0: { 1: 1 }, 1: { 1: 1 } });
  await chain.forwarder.begin();
  const tracker = await chain.forwarder.tracker();
  const [vda, vdb] = chain.scene.vm.disks;
  if (vda === undefined || vdb === undefined) throw new Error("two disks");
  const disks = [{ ...vda, sizeBytes: 2 * vda.sizeBytes }, vdb];
  const header = chain.scene.header({ parentPointId: chain.headPointId, disks });
  await chain.scene.deliver(chain.from, header, { 0: { [BLOCK_COUNT]: 5 }, 1: { 4: 4 } });
  await t.rejects(tracker.advance(), { code: "CONFLICT" });
  t.equal(chain.forwarder.otherCount, 1);
  await chain.forwarder.close();
  const anew = await chain.forwarder.tracker();
  const { targetId } = chain.forwarder;
  t.equal(anew.disks[0]?.sizeBytes, 2 * vda.sizeBytes);
  t.notOk(await anew.hasTarget(targetId));
  await anew.addTarget(targetId, "suspect");
  const { pendingBytes, suspectBytes } = await anew.progress(targetId);
  t.same([pendingBytes, suspectBytes], [GRANULARITY, 2 * vda.sizeBytes]);
});

void t.test("there is nothing to be replicated on before there is a point", async (t) => {
  const chain = await Chain.begin(t);
  await t.rejects(chain.forwarder.tracker(), {
    code: "NOT_FOUND",
    retryable: true,
    message: /no recovery point yet/,
  });
});

runVmTrackerContract(t, "a replica's points", async (t) => {
  const chain = await Chain.begin(t);
  await chain.point({});
  const tracker = await chain.forwarder.tracker();
  const { targetId } = chain.forwarder;
  await tracker.addTarget(targetId);
  return { tracker, targetId, write: (block, value) => chain.point({ 0: { [block]: value } }) };
});
