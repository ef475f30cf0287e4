/** T11: points of a disk that shrank and grew again keep their sizes and contents, merged or not. */
import { join } from "node:path";
import t, { type Test } from "tap";
import { PointExports } from "#lib/replica/point-exports.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
import { keepNewest } from "./support/keep-newest.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { GRANULARITY, readBlocks, Scene } from "./support/scene.js";

const LARGE = 8;
const SMALL = 4;

/** A replica of one VM, and what each of its points must hold. */
class Resized {
  readonly scene = new Scene();
  readonly #expected = new Map<string, number[]>();
  #head: string | null = null;
  #content: number[] = [];

  async point(store: ReplicaStore, blockCount: number, blocks: Record<number, number>) {
    const [vda, ...others] = this.scene.vm.disks;
    if (vda === undefined) throw new Error("the VM has no disk");
    const disks = [{ ...vda, sizeBytes: blockCount * GRANULARITY }, ...others];
    const header = this.scene.header({ parentPointId: this.#head, disks });
    const made = await this.scene.deliver(store, header, { 0: blocks });
    this.#head = made?.pointId ?? null;
    this.#content = Array.from(
      { length: blockCount },
      (_, i) => blocks[i] ?? this.#content[i] ?? 0,
    );
    this.#expected.set(this.#head ?? "", this.#content);
  }

  async check(t: Test, store: ReplicaStore) {
    const { vmId } = this.scene.vm;
    for (const { pointId } of await store.points(vmId)) {
      const [vda] = await readBlocks(store, binding, vmId, pointId);
      t.same(vda, this.#expected.get(pointId));
    }
  }
}

async function failoverSize(t: Test, store: ReplicaStore, root: string, vmId: string) {
  const exports = await PointExports.open({
    store,
    socketDirectory: join(root, "sockets"),
    scratchDirectory: join(root, "scratch"),
    onWarning: (message) => t.fail(message),
  });
  const second = (await store.points(vmId))[1]?.pointId ?? "";
  const failover = await exports.openExport(vmId, second, "test-failover");
  await exports.closeExport(failover.exportId);
  await exports.close();
  return failover.disks[0]?.sizeBytes;
}

void t.test("a larger, older point is whole after a shrink, whatever is merged", async (t) => {
  const root = await temporaryDirectory(t);
  const resized = new Resized();
  const { vm, generation } = resized.scene;
  let store = await openNativeStore(t, root);
  await store.enable(vm, generation);
  await resized.point(store, LARGE, { 0: 11, 3: 13, 6: 16, 7: 17 });
  await resized.point(store, LARGE, { 1: 22 });
  await resized.point(store, SMALL, { 2: 33 });
  await resized.point(store, LARGE, { 4: 0, 5: 0, 6: 0, 7: 47 });
  await resized.point(store, SMALL, { 3: 53 });
  await resized.check(t, store);
  t.equal(await failoverSize(t, store, root, vm.vmId), LARGE * GRANULARITY, "the old size");
  for (const retained of [4, 3, 2, 1]) {
    t.equal(await keepNewest(store, vm.vmId, retained), true);
    t.equal((await store.points(vm.vmId)).length, retained);
    await resized.check(t, store);
    await store.close();
    store = await openNativeStore(t, root);
    await resized.check(t, store);
  }
});
