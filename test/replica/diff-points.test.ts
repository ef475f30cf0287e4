/** What changed between two points, against a naive comparison of both of them whole. */
import t, { type Test } from "tap";
import { diffPoints } from "#lib/replica/diff-points.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
import { SeededRandom } from "../support/seeded-random.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { BLOCK_COUNT, type Blocks, GRANULARITY, readDisk, Scene } from "./support/scene.js";

/** Blocks of an extent list, one by one. */
const blocksOf = (extents: readonly number[]) => {
  const blocks: number[] = [];
  for (let i = 0; i + 1 < extents.length; i += 2) {
    const offset = extents[i] ?? 0;
    const length = extents[i + 1] ?? 0;
    for (let at = offset; at < offset + length; at += GRANULARITY) blocks.push(at / GRANULARITY);
  }
  return blocks;
};

async function naive(store: ReplicaStore, scene: Scene, a: string, b: string, diskIndex: number) {
  const { vmId } = scene.vm;
  const one = await readDisk(store, binding, vmId, a, diskIndex);
  const other = await readDisk(store, binding, vmId, b, diskIndex);
  const blocks: number[] = [];
  for (let at = 0; at < Math.max(one.length, other.length); at += GRANULARITY) {
    const [ours, theirs] = [one, other].map((content) => content.subarray(at, at + GRANULARITY));
    if (ours?.length !== theirs?.length || ours?.compare(theirs ?? Buffer.alloc(0)) !== 0) {
      blocks.push(at / GRANULARITY);
    }
  }
  return blocks;
}

async function written(t: Test) {
  const random = new SeededRandom(11);
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const points: { pointId: string; blocks: Blocks }[] = [];
  for (let n = 0; n < 8; n += 1) {
    // Few values, so that some blocks are written with what they hold; point 6 says nothing new.
    const some = () =>
      n === 5
        ? {}
        : { [random.below(BLOCK_COUNT)]: random.below(3), [random.below(BLOCK_COUNT)]: 1 };
    const blocks = { 0: some(), 1: n % 3 === 0 ? some() : {} };
    const { pointId } = await scene.point(store, points.at(-1)?.pointId ?? null, blocks);
    points.push({ pointId, blocks });
  }
  return { scene, store, points };
}

void t.test("any two points: what was written and what differs", async (t) => {
  const { scene, store, points } = await written(t);
  const { vmId } = scene.vm;
  for (const [i, from] of points.entries()) {
    for (const [j, to] of points.entries()) {
      const request = { fromSequence: i + 1, toSequence: j + 1 };
      const diff = (withContent: boolean) =>
        store.withVm(vmId, (tools, replica) =>
          diffPoints(tools, replica, { ...request, withContent }),
        );
      const [indexes, content] = [await diff(false), await diff(true)];
      for (const diskIndex of [0, 1]) {
        const between = points.slice(Math.min(i, j) + 1, Math.max(i, j) + 1);
        const touched = new Set(
          between.flatMap(({ blocks }) => Object.keys(blocks[diskIndex] ?? {}).map(Number)),
        );
        const name = `disk ${diskIndex} from ${i + 1} to ${j + 1}`;
        const sorted = [...touched].sort((a, b) => a - b);
        t.same(blocksOf(indexes.disks[diskIndex]?.extents ?? []), sorted, `${name}: written`);
        t.equal(indexes.disks[diskIndex]?.changedBytes, sorted.length * GRANULARITY);
        t.equal(indexes.disks[diskIndex]?.differingBytes, null);
        const oracle = await naive(store, scene, from.pointId, to.pointId, diskIndex);
        t.same(blocksOf(content.disks[diskIndex]?.extents ?? []), oracle, `${name}: differs`);
        t.equal(content.disks[diskIndex]?.differingBytes, oracle.length * GRANULARITY);
      }
    }
  }
});

void t.test("a disk that has grown differs where only one of the two has it", async (t) => {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, { 0: { 1: 5 } });
  const [vda, ...others] = scene.vm.disks;
  if (vda === undefined) throw new Error("the VM has no disk");
  const disks = [{ ...vda, sizeBytes: (BLOCK_COUNT + 2) * GRANULARITY }, ...others];
  const grown = scene.header({ parentPointId: first.pointId, disks });
  const second = await scene.deliver(store, grown, { 0: { 1: 5, 8: 6 } });
  const difference = await store.withVm(scene.vm.vmId, (tools, replica) =>
    diffPoints(tools, replica, { fromSequence: 1, toSequence: 2, withContent: true }),
  );
  const [disk] = difference.disks;
  t.same([disk?.fromSizeBytes, disk?.toSizeBytes], [8 * GRANULARITY, 10 * GRANULARITY]);
  t.same(blocksOf(disk?.extents ?? []), [8, 9]);
  t.same(
    blocksOf(disk?.extents ?? []),
    await naive(store, scene, first.pointId, second?.pointId ?? "", 0),
  );
  const none = store.withVm(scene.vm.vmId, (tools, replica) =>
    diffPoints(tools, replica, { fromSequence: 1, toSequence: 9, withContent: false }),
  );
  await t.rejects(none, { code: "NOT_FOUND" });
  const kept = await store.retention.list(scene.vm.vmId);
  t.same(
    kept.map(({ isOpen }) => isOpen),
    [false, false],
    "and the one that is there is not kept for it",
  );
});
