/** What a store makes of the files that it finds. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, rm, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { openNativeStore, temporaryDirectory, verifyLayers } from "./support/native-scene.js";
import { readBlocks, Scene } from "./support/scene.js";

const epochOf = (root: string, scene: Scene) =>
  join(root, "vms", scene.vm.vmId, "epochs", "0000000001");
const pointFile = (root: string, scene: Scene, sequence: number) =>
  join(epochOf(root, scene), "points", `${String(sequence).padStart(12, "0")}.json`);

/** A closed store with a VM of three points, and another VM of one. */
async function storeOfThreePoints(t: Test) {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const other = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  await store.enable(other.vm, other.generation);
  const pointIds: string[] = [];
  for (const value of [11, 22, 33]) {
    const blocks = { 0: { 0: value, [value % 7]: value }, 1: { 0: value } };
    pointIds.push((await scene.point(store, pointIds.at(-1) ?? null, blocks)).pointId);
  }
  const otherPoint = await other.point(store, null, { 0: { 0: 99 } });
  await store.close();
  return { root, scene, other, pointIds, otherPoint };
}

/** The layer files of a point, of disk 0 first. */
async function layersOf(root: string, scene: Scene, sequence: number): Promise<string[]> {
  const [, body] = (await readFile(pointFile(root, scene, sequence), "utf8")).split("\n");
  const manifest = JSON.parse(body ?? "") as { disks: { layers: { fileName: string }[] }[] };
  return manifest.disks.flatMap(({ layers }) =>
    layers.map(({ fileName }) => join(epochOf(root, scene), "layers", fileName)),
  );
}

void t.test("damage ends the chain before it and loses nothing", async (t) => {
  const damages: Record<string, (root: string, scene: Scene) => Promise<void>> = {
    "a flipped byte in a manifest": async (root, scene) => {
      const text = await readFile(pointFile(root, scene, 2), "utf8");
      await writeFile(pointFile(root, scene, 2), text.replace(/"takenAtMs":1/, '"takenAtMs":2'));
    },
    "a truncated manifest": (root, scene) => truncate(pointFile(root, scene, 2), 200),
    "an empty manifest": (root, scene) => truncate(pointFile(root, scene, 2), 0),
    "a missing manifest": (root, scene) => unlink(pointFile(root, scene, 2)),
    "a manifest in another's place": async (root, scene) => {
      await writeFile(pointFile(root, scene, 2), await readFile(pointFile(root, scene, 3)));
    },
    "a truncated layer": async (root, scene) => {
      await truncate((await layersOf(root, scene, 2))[0] ?? "", 5000);
    },
    "a missing layer": async (root, scene) => unlink((await layersOf(root, scene, 2))[1] ?? ""),
  };
  for (const [what, damage] of Object.entries(damages)) {
    await t.test(what, async (t) => {
      const { root, scene, other, pointIds, otherPoint } = await storeOfThreePoints(t);
      await damage(root, scene);
      const before = await readdir(root, { recursive: true });
      const store = await openNativeStore(t, root);
      const { vmId } = scene.vm;
      t.same(
        (await store.points(vmId)).map(({ pointId }) => pointId),
        pointIds.slice(0, 1),
      );
      t.equal((await readBlocks(store, binding, vmId, pointIds[0] ?? ""))[0]?.[0], 11);
      const isDamage = { code: /^(CORRUPT|TRUNCATED|NOT_FOUND)$/, message: /^Cannot / };
      await t.rejects(store.status(vmId), isDamage);
      await t.rejects(store.openStaging(vmId, scene.generation), isDamage);
      await t.rejects(scene.point(store, pointIds[0] ?? "", { 0: { 1: 1 } }), isDamage);
      await t.rejects(store.retention.merge(vmId), isDamage);
      await t.rejects(store.retention.edit(vmId, pointIds[0] ?? "", { label: "x" }), isDamage);
      t.match((await store.listVms()).find((one) => one.vmId === vmId)?.error, isDamage);
      t.ok(await other.point(store, otherPoint.pointId, { 0: { 1: 1 } }), "the other VM goes on");
      const after = new Set(await readdir(root, { recursive: true }));
      t.same(
        before.filter((path) => !after.has(path)),
        [],
        "nothing was removed",
      );
    });
  }
});

void t.test("a manifest of another VM is FOREIGN", async (t) => {
  const { root, scene, other } = await storeOfThreePoints(t);
  await writeFile(pointFile(root, other, 1), await readFile(pointFile(root, scene, 1)));
  const store = await openNativeStore(t, root);
  t.same(await store.points(other.vm.vmId), []);
  await t.rejects(store.status(other.vm.vmId), { code: "FOREIGN" });
});

void t.test("a format of a later version is refused with both versions named", async (t) => {
  const { root, scene, other } = await storeOfThreePoints(t);
  const text = await readFile(pointFile(root, scene, 3), "utf8");
  await writeFile(pointFile(root, scene, 3), text.replace('"version":2', '"version":8'));
  const store = await openNativeStore(t, root);
  await t.rejects(store.status(scene.vm.vmId), { code: "VERSION_UNKNOWN", message: /8.*2/ });
  t.equal((await store.points(scene.vm.vmId)).length, 2);
  t.ok(await store.status(other.vm.vmId));
});

void t.test("a VM whose own record is damaged is refused; it is not made anew", async (t) => {
  const { root, scene, other } = await storeOfThreePoints(t);
  await truncate(join(root, "vms", scene.vm.vmId, "vm.json"), 40);
  const store = await openNativeStore(t, root);
  await t.rejects(store.status(scene.vm.vmId), { code: "CORRUPT" });
  await t.rejects(store.enable(scene.vm, scene.generation), { code: "CORRUPT" });
  t.ok(await store.status(other.vm.vmId));
  await store.close();
  await unlink(join(root, "vms", scene.vm.vmId, "vm.json"));
  const again = await openNativeStore(t, root);
  await t.rejects(again.enable(scene.vm, scene.generation), { code: "NOT_FOUND" }, "missing");
});

void t.test("T14: verification finds one flipped bit in a layer", async (t) => {
  const { root, scene, pointIds } = await storeOfThreePoints(t);
  const [layer] = await layersOf(root, scene, 2);
  const bytes = await readFile(layer ?? "");
  bytes.writeUInt8(bytes.readUInt8(4096 + 17) ^ 4, 4096 + 17);
  await writeFile(layer ?? "", bytes);
  const store = await openNativeStore(t, root);
  await verifyLayers(store, scene.vm.vmId, pointIds[0] ?? "");
  await t.rejects(verifyLayers(store, scene.vm.vmId, pointIds[1] ?? ""), { code: "CORRUPT" });
  await t.rejects(verifyLayers(store, scene.vm.vmId, pointIds[2] ?? ""), { code: "CORRUPT" });
});

void t.test("T36: what nothing refers to is removed; other people's files are not", async (t) => {
  const { root, scene, pointIds } = await storeOfThreePoints(t);
  const epoch = epochOf(root, scene);
  const id = "00000000-0000-4000-8000-000000000000";
  const orphan = join(epoch, "layers", `${id}-0.layer`);
  const temporary = `${pointFile(root, scene, 4)}.tmp`;
  const foreign = join(epoch, "layers", "notes.txt");
  for (const path of [orphan, temporary, foreign]) await writeFile(path, "x");
  const store = await openNativeStore(t, root);
  t.equal((await store.points(scene.vm.vmId)).length, pointIds.length);
  t.notOk((await readdir(join(epoch, "layers"))).includes(`${id}-0.layer`));
  t.equal((await readdir(join(epoch, "points"))).length, pointIds.length);
  t.ok((await readdir(join(epoch, "layers"))).includes("notes.txt"));
});

void t.test("a staging session and its layers survive a restart", async (t) => {
  const { root, scene, pointIds } = await storeOfThreePoints(t);
  const { vmId } = scene.vm;
  const parentPointId = pointIds.at(-1) ?? null;
  const first = await openNativeStore(t, root);
  const stagingSessionId = await first.openStaging(vmId, scene.generation);
  const pass = scene.header({ kind: "staging", parentPointId, stagingSessionId });
  await scene.deliver(first, pass, { 0: { 6: 61 }, 1: { 6: 62 } });
  await first.close();
  const second = await openNativeStore(t, root);
  t.equal((await second.status(vmId)).stagingSessionId, stagingSessionId);
  const closing = scene.header({ parentPointId, stagingSessionId });
  const point = await scene.deliver(second, closing, { 0: { 5: 51 } });
  await second.close();
  const third = await openNativeStore(t, root);
  const content = await readBlocks(third, binding, vmId, point?.pointId ?? "");
  t.same(
    content.map((disk) => disk[6]),
    [61, 62],
  );
  t.equal(content[0]?.[5], 51);
  t.equal((await third.status(vmId)).stagingSessionId, null);
});

void t.test("a session that a point did not take in is lost with its layers", async (t) => {
  const { root, scene, pointIds } = await storeOfThreePoints(t);
  const { vmId } = scene.vm;
  const store = await openNativeStore(t, root);
  const parentPointId = pointIds.at(-1) ?? null;
  const stagingSessionId = await store.openStaging(vmId, scene.generation);
  const pass = scene.header({ kind: "staging", parentPointId, stagingSessionId });
  await scene.deliver(store, pass, { 0: { 6: 61 } });
  const point = await scene.point(store, parentPointId, { 0: { 6: 66 } });
  const late = scene.header({ parentPointId: point.pointId, stagingSessionId });
  await t.rejects(store.openDelta(late), { code: "STAGING_LOST" });
  t.equal((await store.status(vmId)).stagingSessionId, null);
  await store.close();
  const again = await openNativeStore(t, root);
  t.equal((await readBlocks(again, binding, vmId, point.pointId))[0]?.[6], 66);
});

const HOLDER = `
  const [, storeModule, bindingModule, sinkModule, root] = process.argv;
  const { ReplicaStore } = await import(storeModule);
  const { binding } = await import(bindingModule);
  const { openSegmentSink } = await import(sinkModule);
  await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
  process.stdout.write("open\\n");
  setInterval(() => {}, 1000);`;

void t.test("a store is one process's; kill -9 frees it", async (t) => {
  const { root, scene } = await storeOfThreePoints(t);
  const modules = [
    "#lib/replica/replica-store.js",
    "#lib/tracking/binding.js",
    "#lib/replica/segment-sink.js",
  ].map((name) => import.meta.resolve(name));
  const parameters = ["--input-type=module", "-e", HOLDER, ...modules, root];
  const child = spawn(process.execPath, parameters, { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => child.kill("SIGKILL"));
  const exited = once(child, "exit");
  await once(child.stdout, "data");
  const open = () => ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
  await t.rejects(open(), { code: "IN_USE", message: /another process/ });
  child.kill("SIGKILL");
  await exited;
  const store = await openNativeStore(t, root);
  t.equal((await store.points(scene.vm.vmId)).length, 3);
  await t.rejects(open(), { code: "IN_USE" }, "also within a process");
  await store.close();
  await t.rejects(store.points(scene.vm.vmId), { code: "CLOSED" });
  await rm(join(root, "lock.db"));
});
