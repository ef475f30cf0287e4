/** T14, T28: what rots in a layer is known through thinning, and never gets a checksum that fits. */
import t, { type Test } from "tap";
import { binding } from "#lib/tracking/binding.js";
import { damageLayer } from "./support/damage-layer.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { type Blocks, readBlocks, Scene } from "./support/scene.js";
import { verified } from "./support/verified.js";

async function storeOf(t: Test, ...changes: readonly Blocks[]) {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const pointIds: string[] = [];
  for (const blocks of changes) {
    pointIds.push((await scene.point(store, pointIds.at(-1) ?? null, blocks)).pointId);
  }
  return { root, scene, store, pointIds, vmId: scene.vm.vmId };
}

void t.test("a block that rotted is not merged into a layer; everything stays", async (t) => {
  const kept = await storeOf(t, { 0: { 0: 11 } }, { 0: { 1: 22 } }, { 0: { 2: 33 } });
  const { root, scene, store, pointIds, vmId } = kept;
  await damageLayer(root, 22, "data");
  await store.retention.delete(vmId, pointIds[1] ?? "");
  const refused = store.retention.merge(vmId);
  await t.rejects(refused, { code: "CORRUPT", message: /layers\/.*\.layer.*disk offset 4096 / });
  const found = await verified(t, store, vmId);
  t.same(found.damagedPoints, [3]);
  t.ok(await scene.point(store, pointIds[2] ?? null, { 0: { 3: 44 } }), "replication goes on");
  await t.rejects(readBlocks(store, binding, vmId, pointIds[2] ?? ""), { code: "CORRUPT" });
});

void t.test(
  "damage of a point that is given up is that of the point that takes it over",
  async (t) => {
    const changes = [{ 0: { 0: 11 } }, { 0: { 1: 22, 4: 23 } }, { 0: { 2: 33, 4: 34 } }];
    const { root, scene, store, pointIds, vmId } = await storeOf(t, ...changes);
    await damageLayer(root, 22, "data");
    t.same((await verified(t, store, vmId)).damagedPoints, [2, 3]);
    const before = (await store.status(vmId)).headDamage;
    await store.retention.delete(vmId, pointIds[1] ?? "");
    const after = (await store.status(vmId)).headDamage;
    t.same(after, before, "without another verification");
    t.ok(after !== undefined && after.length > 0);

    const repaired = await scene.point(store, pointIds[2] ?? null, { 0: { 1: 22 } });
    t.equal((await store.status(vmId)).headDamage, undefined, "it came again");
    await store.retention.delete(vmId, pointIds[2] ?? "");
    t.equal(await store.retention.merge(vmId), true, "what is hidden does not stop a merge");
    t.same((await verified(t, store, vmId)).damagedPoints, []);
    t.same(await readBlocks(store, binding, vmId, repaired.pointId), [
      [11, 22, 33, 0, 34, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0],
    ]);
  },
);
