/** G5, G9: each file operation of retention fails once; nothing kept is lost, and the repeat gets through. */
import t, { type Test } from "tap";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { FailingFiles } from "./support/failing-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { blocksOfPoint, contentOfPoint } from "./support/numbered-points.js";
import { openPlainStore, readBlocks, Scene } from "./support/scene.js";

const ROOT = "/store";
const PINNED = 4;

const scene = new Scene();
const { vmId } = scene.vm;

async function giveUp(store: ReplicaStore, ...sequences: readonly number[]): Promise<void> {
  await store.retention.giveUp(vmId, (points) => {
    const gone = points.filter(({ point }) => sequences.includes(point.sequence));
    return new Set(gone.map(({ point }) => point.pointId));
  });
}

async function pin(store: ReplicaStore): Promise<void> {
  const point = (await store.points(vmId)).find(({ sequence }) => sequence === PINNED);
  await store.retention.edit(vmId, point?.pointId ?? "", { isPinned: true });
}

/** Each may be repeated, in this order. */
const STEPS: readonly ((store: ReplicaStore) => Promise<unknown>)[] = [
  (store) => giveUp(store, 2, 3, 5),
  pin,
  (store) => store.retention.merge(vmId),
  (store) => giveUp(store, 1, PINNED, 6),
  (store) => store.retention.merge(vmId),
];

async function storeOfPoints(files: FailingFiles): Promise<ReplicaStore> {
  const store = await openPlainStore(ROOT, files);
  await store.enable(scene.vm, scene.generation);
  let parentPointId: string | null = null;
  for (const sequence of [1, 2, 3, 4, 5, 6, 7]) {
    parentPointId = (await scene.point(store, parentPointId, blocksOfPoint(sequence))).pointId;
  }
  return store;
}

async function checkPoints(t: Test, store: ReplicaStore, files: FailingFiles): Promise<number[]> {
  const points = await store.points(vmId);
  for (const { pointId, sequence } of points) {
    const found = await readBlocks(store, plainLayers(files), vmId, pointId);
    t.same(found, contentOfPoint(sequence).values, `point ${sequence}`);
  }
  return points.map(({ sequence }) => sequence);
}

/** False when there was nothing left to fail. */
async function failOnce(t: Test, operation: number, isAfter: boolean, restarts: boolean) {
  const files = new FailingFiles();
  let store = await storeOfPoints(files);
  Object.assign(files, { operationsUntilFailure: operation, failsAfterEffect: isAfter });
  let isPinned = false;
  for (const [index, step] of STEPS.entries()) {
    try {
      await step(store);
    } catch (thrown) {
      t.match(thrown, { code: "NO_SPACE" });
      await checkPoints(t, store, files);
      if (restarts) {
        await store.close();
        store = await openPlainStore(ROOT, files);
      }
      await checkPoints(t, store, files);
      t.equal((await store.status(vmId)).head?.sequence, 7, "the VM takes more");
      await step(store);
    }
    isPinned ||= index === 1;
    if (isPinned)
      t.ok((await checkPoints(t, store, files)).includes(PINNED), "what is pinned stays");
  }
  t.same(await checkPoints(t, store, files), [PINNED, 7]);
  const names = await files.list(`/store/vms/${vmId}/epochs/0000000001/layers`);
  await store.close();
  store = await openPlainStore(ROOT, files);
  t.same(await checkPoints(t, store, files), [PINNED, 7], "after a restart");
  const needed = await files.list(`/store/vms/${vmId}/epochs/0000000001/layers`);
  t.equal(needed.length, 2, "a layer of each disk");
  if (files.failed === "write") t.same(names, needed, "T36");
  await store.close();
  return files.failed !== "";
}

for (const isAfter of [false, true]) {
  for (const restarts of [false, true]) {
    const when = isAfter ? "after it took effect" : "without effect";
    const then = restarts ? "and the service restarts" : "and the service goes on";
    void t.test(`G5 G9: an operation of retention fails ${when}, ${then}`, async (t) => {
      let operation = 1;
      while (await failOnce(t, operation, isAfter, restarts)) operation += 1;
      t.ok(operation > 20, `${operation - 1} operations`);
    });
  }
}
