/** Deleting a replica: all of it or nothing, whatever a crash leaves, and never under somebody's feet. */
import t from "tap";
import { crashStates } from "./support/crash-states.js";
import { keepNewest } from "./support/keep-newest.js";
import { MemoryFiles } from "./support/memory-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { RecordingFiles } from "./support/recording-files.js";
import { openPlainStore, readBlocks, Scene } from "./support/scene.js";

const ROOT = "/store";
const LIMIT_MS = 120_000;
t.setTimeout(LIMIT_MS);

void t.test("T36: after a crash at any step of a deletion the VM is whole or gone", async (t) => {
  const files = new RecordingFiles();
  const scene = new Scene();
  const { vmId } = scene.vm;
  const store = await openPlainStore(ROOT, files);
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, { 0: { 0: 11, 1: 12 } });
  const second = await scene.point(store, first.pointId, { 0: { 1: 22 }, 1: { 3: 33 } });
  await keepNewest(store, vmId, 1);
  await store.openDelta(scene.header({ parentPointId: second.pointId, segmentCount: 1 }));
  const expected = await readBlocks(store, plainLayers(files), vmId, second.pointId);
  const before = files.events.length;
  await store.deleteVm(vmId, scene.generation);
  files.mark("deleted");
  await store.close();

  let [goneCount, wholeCount] = [0, 0];
  for (const state of crashStates(files.events, before)) {
    const after = new MemoryFiles(state.tree);
    await using again = await openPlainStore(ROOT, after);
    const [found] = await again.listVms();
    const isTold = state.eventCount === files.events.length;
    if (found === undefined) {
      goneCount += 1;
      t.same(after.below(`${ROOT}/vms`), [], `${state.description}: nothing of it is left`);
    } else {
      wholeCount += 1;
      const blocks = await readBlocks(again, plainLayers(after), vmId, second.pointId);
      const isWhole = found.error === null && JSON.stringify(blocks) === JSON.stringify(expected);
      if (isTold || !isWhole) t.fail(`${state.description}: it is there, ${String(found.error)}`);
    }
    await again.deleteVm(vmId, scene.generation);
    const status = await again.enable(scene.vm, scene.generation);
    if (status.head !== null) t.fail(`${state.description}: an old point is there again`);
  }
  t.ok(goneCount > 10 && wholeCount > 1, `${goneCount} gone, ${wholeCount} whole`);
});

void t.test("an open point is not deleted; closed, it is", async (t) => {
  const store = await openPlainStore(ROOT, new MemoryFiles());
  const scene = new Scene();
  const { vmId } = scene.vm;
  await store.enable(scene.vm, scene.generation);
  const { pointId } = await scene.point(store, null, { 0: { 0: 11 } });
  const opened = await store.openPoint(vmId, pointId);
  const refused = { code: "IN_USE", retryable: false, hint: /exports/ };
  await t.rejects(store.deleteVm(vmId, scene.generation), refused);
  await t.rejects(store.deleteReplica(vmId), refused);
  t.equal((await store.points(vmId)).length, 1);
  opened.release();
  await store.deleteReplica(vmId);
  await t.rejects(store.deleteReplica(vmId), { code: "NOT_FOUND" });
  await store.close();
});

/** Calls back in the middle of a deletion, while the VM's lock is held. */
class WatchedFiles extends MemoryFiles {
  onDeletion: () => void = () => {};

  override async rename(from: string, to: string): Promise<void> {
    if (to.endsWith("vm.deleted")) this.onDeletion();
    await super.rename(from, to);
  }
}

void t.test("a VM with a pinned point is not deleted; unpinned, it is", async (t) => {
  const store = await openPlainStore(ROOT, new MemoryFiles());
  const scene = new Scene();
  const { vmId } = scene.vm;
  await store.enable(scene.vm, scene.generation);
  const { pointId } = await scene.point(store, null, { 0: { 0: 11 } });
  await scene.point(store, pointId, { 0: { 0: 12 } });
  await store.retention.edit(vmId, pointId, { isPinned: true });
  const refused = { code: "IN_USE", message: /recovery point 1 is pinned/, hint: /unpin/ };
  await t.rejects(store.deleteVm(vmId, scene.generation), refused);
  await t.rejects(store.deleteReplica(vmId), refused);
  t.equal((await store.points(vmId)).length, 2);
  await store.retention.edit(vmId, pointId, { isPinned: false });
  await store.deleteVm(vmId, scene.generation);
  t.same(await store.listVms(), []);
  await store.close();
});

void t.test("what waits for the VM behind its deletion finds it gone", async (t) => {
  const files = new WatchedFiles();
  const store = await openPlainStore(ROOT, files);
  const scene = new Scene();
  const { vmId } = scene.vm;
  await store.enable(scene.vm, scene.generation);
  const { pointId } = await scene.point(store, null, { 0: { 0: 11 } });
  const waiting: Promise<unknown>[] = [];
  files.onDeletion = () => {
    waiting.push(store.openStaging(vmId, scene.generation), store.openPoint(vmId, pointId));
    waiting.push(store.deleteReplica(vmId));
    for (const one of waiting) one.catch(() => undefined);
  };
  await store.deleteVm(vmId, scene.generation);
  t.equal(waiting.length, 3);
  for (const one of waiting) await t.rejects(one, { code: "NOT_FOUND" });
  t.same(files.below(`${ROOT}/vms`), [], "nothing came back");
  await store.close();
});

void t.test("what cannot be read is its own administrator's to delete", async (t) => {
  const files = new MemoryFiles();
  const scene = new Scene();
  const { vmId } = scene.vm;
  const store = await openPlainStore(ROOT, files);
  await store.enable(scene.vm, scene.generation);
  await scene.point(store, null, { 0: { 0: 11 } });
  await store.close();
  await files.writeSynced(`${ROOT}/vms/${vmId}/vm.json`, Buffer.from("rubbish"));
  const again = await openPlainStore(ROOT, files);
  t.equal((await again.listVms()).length, 1);
  await again.deleteReplica(vmId);
  t.same(await again.listVms(), []);
  t.same(files.below(`${ROOT}/vms`), []);
  await again.close();
});
