/** T34: points keep the disks that they were cut of, with all their content, whatever is merged. */
import { join } from "node:path";
import t, { type Test } from "tap";
import { SeededRandom } from "../support/seeded-random.js";
import type { DiskGeometry } from "#lib/model/disk.js";
import { NodeStoreFiles } from "#lib/replica/node-store-files.js";
import { PointExports } from "#lib/replica/point-exports.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { VmPaths } from "#lib/replica/store-paths.js";
import { binding } from "#lib/tracking/binding.js";
import { memoryDirectory, openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { BLOCK_COUNT, GRANULARITY, readDisk, Scene } from "./support/scene.js";
import { keepNewest } from "./support/keep-newest.js";

t.setTimeout(240_000);

/** Values of a disk's blocks, by the disk's name. */
type Content = Readonly<Record<string, readonly number[]>>;

function newDisk(name: string, id: string): DiskGeometry {
  return {
    diskId: `00000000-0000-4000-8000-0000000000${id}`,
    name,
    sizeBytes: BLOCK_COUNT * GRANULARITY,
    granularityBytes: GRANULARITY,
  };
}

const VDA = newDisk("vda", "0a");
const VDB = newDisk("vdb", "0b");
const VDC = newDisk("vdc", "0c");

/** A replica of a VM whose disks come and go, and what each of its points must hold. */
class Changing {
  readonly scene = new Scene();
  readonly expected = new Map<string, Content>();
  #head: string | null = null;
  #content: Content = {};

  /** As a primary does: what a disk that came has travels, whatever it had before. */
  async point(
    store: ReplicaStore,
    disks: readonly DiskGeometry[],
    changes: Record<string, Record<number, number>>,
  ): Promise<string> {
    const blocks = Object.fromEntries(
      disks.flatMap(({ name }, index) => {
        const values = changes[name];
        return values === undefined ? [] : [[index, values]];
      }),
    );
    const header = this.scene.header({ parentPointId: this.#head, disks });
    const made = await this.scene.deliver(store, header, blocks);
    const before = this.#content;
    this.#content = Object.fromEntries(
      disks.map(({ name }) => {
        const former = before[name] ?? Array.from({ length: BLOCK_COUNT }, () => 0);
        return [name, former.map((value, block) => changes[name]?.[block] ?? value)];
      }),
    );
    this.#head = made?.pointId ?? "";
    this.expected.set(this.#head, this.#content);
    return this.#head;
  }

  async check(t: Test, store: ReplicaStore): Promise<void> {
    const { vmId } = this.scene.vm;
    for (const { pointId, sequence } of await store.points(vmId)) {
      t.same(
        await readPoint(store, vmId, pointId),
        this.expected.get(pointId),
        `point ${sequence}`,
      );
    }
  }
}

async function readPoint(store: ReplicaStore, vmId: string, pointId: string): Promise<Content> {
  const opened = await store.openPoint(vmId, pointId);
  const names = opened.disks.map(({ geometry }) => geometry.name);
  opened.release();
  const content: Record<string, number[]> = {};
  for (const [index, name] of names.entries()) {
    const bytes = await readDisk(store, binding, vmId, pointId, index);
    content[name] = Array.from({ length: BLOCK_COUNT }, (_, block) => {
      const piece = bytes.subarray(block * GRANULARITY, (block + 1) * GRANULARITY);
      return piece.every((byte) => byte === piece[0]) ? (piece[0] ?? 0) : Number.NaN;
    });
  }
  return content;
}

void t.test("disks come, go and come back, and points are merged away one by one", async (t) => {
  const root = await temporaryDirectory(t);
  const changing = new Changing();
  const { vm, generation } = changing.scene;
  let store = await openNativeStore(t, root);
  await store.enable({ ...vm, disks: [VDA, VDB] }, generation);
  await changing.point(store, [VDA, VDB], { vda: { 0: 1, 5: 2 }, vdb: { 1: 3, 2: 4 } });
  await changing.point(store, [VDA, VDB, VDC], { vda: { 0: 11 }, vdc: { 0: 12, 7: 13 } });
  await changing.point(store, [VDA, VDC], { vda: { 1: 21 } });
  await changing.point(store, [VDA, VDC], { vdc: { 7: 31 } });
  await changing.point(store, [VDB, VDC, VDA], { vdb: { 3: 41 }, vda: { 5: 0 } });
  await changing.point(store, [VDB, VDA], { vdb: { 1: 51 } });
  await changing.check(t, store);
  for (const retained of [5, 4, 3, 2, 1]) {
    t.equal(await keepNewest(store, vm.vmId, retained), true);
    t.equal((await store.points(vm.vmId)).length, retained);
    await changing.check(t, store);
    await store.close();
    store = await openNativeStore(t, root);
    await changing.check(t, store);
  }
  const paths = new VmPaths(root, vm.vmId);
  const bases = await new NodeStoreFiles().list(paths.disksDirectory);
  t.notOk(bases.includes(VDC.diskId), "nothing is left of a disk that no point has");
});

void t.test("whatever the order of changes and merges, each point is what it was", async (t) => {
  for (let seed = 1; seed <= 25; seed += 1) {
    const random = new SeededRandom(seed);
    const changing = new Changing();
    const { vm, generation } = changing.scene;
    const store = await openNativeStore(t, await memoryDirectory(t));
    await store.enable({ ...vm, disks: [VDA] }, generation);
    for (let step = 0; step < 12; step += 1) {
      const others = [VDB, VDC].filter(() => random.below(3) > 0);
      const disks = random.below(2) === 0 ? [VDA, ...others] : [...others, VDA];
      const changes = Object.fromEntries(
        disks.map(({ name }) => [
          name,
          { [random.below(BLOCK_COUNT)]: random.below(250), [random.below(BLOCK_COUNT)]: 0 },
        ]),
      );
      await changing.point(store, disks, changes);
      await store.retention.giveUp(vm.vmId, (points) => {
        const some = points.filter(() => random.below(5) === 0);
        return new Set(some.map(({ point }) => point.pointId));
      });
      if (random.below(3) === 0) t.ok(await store.retention.merge(vm.vmId));
      if (random.below(6) === 0) await keepNewest(store, vm.vmId, 1 + random.below(5));
    }
    await changing.check(t, store);
    await store.close();
  }
});

void t.test("opening a point says which disks it does not have, and which are empty", async (t) => {
  const root = await temporaryDirectory(t);
  const changing = new Changing();
  const { vm, generation } = changing.scene;
  const store = await openNativeStore(t, root);
  await store.enable({ ...vm, disks: [VDA, VDB] }, generation);
  const first = await changing.point(store, [VDA, VDB], { vda: { 0: 1 }, vdb: { 0: 2 } });
  const header = changing.scene.header({
    parentPointId: first,
    disks: [VDA],
    excludedDisks: [VDC],
  });
  const second = await changing.scene.deliver(store, header, { 0: { 1: 3 } });
  const exports = await PointExports.open({
    store,
    socketDirectory: join(root, "sockets"),
    scratchDirectory: join(root, "scratch"),
    onWarning: (message) => t.fail(message),
  });
  const older = await exports.openExport(vm.vmId, first, "test-failover");
  t.same(
    older.disks.map(({ name, isPlaceholder }) => [name, isPlaceholder]),
    [
      ["vda", false],
      ["vdb", false],
    ],
    "the disks that it had, by the names that they had",
  );
  t.same(older.absentDisks, [{ diskId: VDC.diskId, name: "vdc" }]);
  const newer = await exports.openExport(vm.vmId, second?.pointId ?? "", "test-failover");
  t.same(
    newer.disks.map(({ name, sizeBytes, isPlaceholder }) => [name, sizeBytes, isPlaceholder]),
    [
      ["vda", VDA.sizeBytes, false],
      ["vdc", VDC.sizeBytes, true],
    ],
  );
  t.same(newer.absentDisks, []);
  await exports.close();
});
