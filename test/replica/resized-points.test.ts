/** T11: points of a disk that shrank and grew again keep their sizes and contents, merged or not. */
import { join } from "node:path";
import t from "tap";
import { PointExports } from "#lib/replica/point-exports.js";
import { binding } from "#lib/tracking/binding.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { type Blocks, GRANULARITY, readBlocks, Scene } from "./support/scene.js";

const LARGE = 8;
const SMALL = 4;

void t.test("a larger, older point is whole after a shrink, whatever is merged", async (t) => {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const { vmId } = scene.vm;
  let store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const expected = new Map<string, number[]>();
  let head: string | null = null;
  let content: number[] = [];
  const point = async (blockCount: number, blocks: Record<number, number>) => {
    const [vda, vdb] = scene.vm.disks;
    if (vda === undefined || vdb === undefined) throw new Error("the VM has two disks");
    const disks = [{ ...vda, sizeBytes: blockCount * GRANULARITY }, vdb];
    const header = scene.header({ parentPointId: head, disks });
    const changed: Blocks = { 0: blocks };
    const made = await scene.deliver(store, header, changed);
    head = made?.pointId ?? null;
    content = Array.from({ length: blockCount }, (_, i) => blocks[i] ?? content[i] ?? 0);
    expected.set(head ?? "", content);
  };
  await point(LARGE, { 0: 11, 3: 13, 6: 16, 7: 17 });
  await point(LARGE, { 1: 22 });
  await point(SMALL, { 2: 33 });
  await point(LARGE, { 4: 0, 5: 0, 6: 0, 7: 47 });
  await point(SMALL, { 3: 53 });

  const pointsAreRight = async () => {
    for (const { pointId } of await store.points(vmId)) {
      const [vda] = await readBlocks(store, binding, vmId, pointId);
      t.same(vda, expected.get(pointId));
    }
  };
  await pointsAreRight();
  const exports = await PointExports.open({
    store,
    socketDirectory: join(root, "sockets"),
    scratchDirectory: join(root, "scratch"),
    onWarning: (message) => t.fail(message),
  });
  const second = (await store.points(vmId))[1]?.pointId ?? "";
  const failover = await exports.openExport(vmId, second, "test-failover");
  t.equal(failover.disks[0]?.sizeBytes, LARGE * GRANULARITY, "a failover to it has the old size");
  await exports.closeExport(failover.exportId);
  await exports.close();

  for (const retained of [4, 3, 2, 1]) {
    t.equal(await store.compact(vmId, retained), true);
    t.equal((await store.points(vmId)).length, retained);
    await pointsAreRight();
    await store.close();
    store = await openNativeStore(t, root);
    await pointsAreRight();
  }
});
