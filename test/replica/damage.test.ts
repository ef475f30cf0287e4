/** What is known to be damaged: what the primary is asked to bring again, and what then becomes of it. */
import t, { type Test } from "tap";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
import { until } from "../support/until.js";
import { damageLayer as damage } from "./support/damage-layer.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { BLOCK_COUNT, GRANULARITY, readBlocks, Scene } from "./support/scene.js";
import { verified } from "./support/verified.js";
import { keepNewest } from "./support/keep-newest.js";

async function keep(t: Test) {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, { 0: { 0: 11, 1: 12 }, 1: { 0: 13 } });
  const second = await scene.point(store, first.pointId, { 0: { 1: 22, 2: 23 } });
  return { root, scene, store, first, second, vmId: scene.vm.vmId };
}

/** Once nobody has a point open any more. */
function merged(store: ReplicaStore, vmId: string): Promise<true> {
  return until("a merge", 30_000, async () => (await keepNewest(store, vmId, 1)) && true);
}

const all = (value: number) =>
  Object.fromEntries(Array.from({ length: BLOCK_COUNT }, (_, block) => [block, value + block]));

void t.test(
  "T28: the primary is asked for what is damaged of the head, and for no more",
  async (t) => {
    const { root, scene, store, first, second, vmId } = await keep(t);
    const [vda] = scene.vm.disks;
    t.equal((await store.status(vmId)).headDamage, undefined);
    await damage(root, 12, "data");
    await verified(t, store, vmId);
    t.equal((await store.status(vmId)).headDamage, undefined, "point 2 has other content there");
    await damage(root, 11, "data");
    const found = await verified(t, store, vmId);
    t.same(found.damagedPoints, [1, 2]);
    const { headDamage } = await store.status(vmId);
    t.same(headDamage, [{ diskId: vda?.diskId, extents: [0, GRANULARITY] }]);
    const third = await scene.point(store, second.pointId, { 0: { 0: 11 } });
    t.equal((await store.status(vmId)).headDamage, undefined);
    t.same((await verified(t, store, vmId)).damagedPoints, [1, 2], "the older ones stay marked");
    t.same((await readBlocks(store, binding, vmId, third.pointId))[0]?.slice(0, 3), [11, 22, 23]);
    await t.rejects(readBlocks(store, binding, vmId, first.pointId), { code: "CORRUPT" });
  },
);

void t.test(
  "T28: a layer that cannot be used: once all of the disk came again, points do without",
  async (t) => {
    const { root, scene, store, first, second, vmId } = await keep(t);
    const [vda] = scene.vm.disks;
    await damage(root, 22, "header");
    t.same((await verified(t, store, vmId)).damagedPoints, [2]);
    const wholeDisk = [0, BLOCK_COUNT * GRANULARITY];
    const { headDamage } = await store.status(vmId);
    t.same(headDamage, [{ diskId: vda?.diskId, extents: wholeDisk }]);
    await t.rejects(readBlocks(store, binding, vmId, second.pointId), { code: "CORRUPT" });
    const some = await scene.point(store, second.pointId, { 0: { 0: 31 }, 1: { 1: 32 } });
    await t.rejects(readBlocks(store, binding, vmId, some.pointId), { code: "CORRUPT" });
    await store.retention.delete(vmId, second.pointId);
    const merge = until("a merge", 30_000, () => store.retention.merge(vmId));
    await t.rejects(merge, { code: "CORRUPT" }, "what is needed is not merged away");
    const whole = await scene.point(store, some.pointId, { 0: all(41) });
    t.equal((await store.status(vmId)).headDamage, undefined);
    t.same(await readBlocks(store, binding, vmId, whole.pointId), [
      Object.values(all(41)),
      [13, 32, 0, 0, 0, 0, 0, 0],
    ]);
    t.same((await readBlocks(store, binding, vmId, first.pointId))[1]?.[0], 13);
    t.ok(await merged(store, vmId), "and what it lay under can be merged");
    const after = await verified(t, store, vmId);
    t.same([after.damage, after.last?.result], [[], "good"]);
    t.equal((await readBlocks(store, binding, vmId, whole.pointId))[0]?.[7], 48);
  },
);
