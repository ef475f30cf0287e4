/** Recovery points opened as disks. */
import { randomUUID } from "node:crypto";
import { access, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { Generation } from "#lib/model/disk.js";
import { type LineageEntry, successorOf } from "#lib/model/lineage.js";
import { encodeDocument } from "#lib/replica/durable-document.js";
import { PointExports } from "#lib/replica/point-exports.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
import { keepNewest } from "./support/keep-newest.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { GRANULARITY, readBlocks, Scene } from "./support/scene.js";
import { NbdClient } from "./support/nbd-client.js";

async function start(t: Test) {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, { 0: { 0: 11, 1: 12 }, 1: { 0: 13 } });
  const second = await scene.point(store, first.pointId, { 0: { 1: 22 } });
  const exports = await openExports(t, store, root);
  return { root, scene, store, first, second, exports };
}

async function openExports(t: Test, store: ReplicaStore, root: string) {
  const warnings: string[] = [];
  const exports = await PointExports.open({
    store,
    socketDirectory: join(root, "sockets"),
    scratchDirectory: join(root, "scratch"),
    onWarning: (message) => warnings.push(message),
  });
  t.teardown(() => exports.close());
  return Object.assign(exports, { warnings });
}

const socketOf = (uri: string) => new URL(uri).searchParams.get("socket") ?? "";

async function blockOver(uri: string, block: number): Promise<number> {
  await using client = await NbdClient.connect(socketOf(uri), "vda");
  const bytes = await client.read(block * GRANULARITY, GRANULARITY);
  return bytes.every((byte) => byte === bytes[0]) ? (bytes[0] ?? -1) : -1;
}

void t.test(
  "T41: what a test failover writes never reaches the point, and replication goes on",
  async (t) => {
    const { scene, store, first, second, exports } = await start(t);
    const { vmId } = scene.vm;
    const opened = await exports.openExport(vmId, second.pointId, "test-failover");
    t.same(
      opened.disks.map(({ name, sizeBytes }) => [name, sizeBytes]),
      [
        ["vda", 8 * GRANULARITY],
        ["vdb", 8 * GRANULARITY],
      ],
    );
    const uri = opened.disks[0]?.uri ?? "";
    {
      await using client = await NbdClient.connect(socketOf(uri), "vda");
      await client.write(GRANULARITY, Buffer.alloc(GRANULARITY, 0x99));
    }
    t.equal(await blockOver(uri, 1), 0x99, "the export's clients see it");
    t.equal(await blockOver(uri, 0), 11);
    t.ok(await scene.point(store, second.pointId, { 0: { 1: 33 } }), "replication goes on");
    const another = await exports.openExport(vmId, second.pointId, "test-failover");
    t.equal(
      await blockOver(another.disks[0]?.uri ?? "", 1),
      22,
      "a second export sees nothing of it",
    );
    const older = await exports.openExport(vmId, first.pointId, "test-failover");
    t.equal(await blockOver(older.disks[0]?.uri ?? "", 1), 12, "an older point beside it");
    t.equal(exports.list().length, 3);
    await exports.closeExport(opened.exportId);
    await t.rejects(exports.closeExport(opened.exportId), { code: "NOT_FOUND" });
    t.same((await readBlocks(store, binding, vmId, second.pointId))[0]?.slice(0, 3), [11, 22, 0]);
  },
);

void t.test("G5: a point that is open read-only takes no write, and commits go on", async (t) => {
  const { root, scene, store, second, exports } = await start(t);
  const { vmId } = scene.vm;
  const opened = await exports.openExport(vmId, second.pointId, "read-only");
  const uri = opened.disks[0]?.uri ?? "";
  await using client = await NbdClient.connect(socketOf(uri), "vda");
  await t.rejects(client.write(0, Buffer.alloc(GRANULARITY, 0x99)), /NBD error 1$/, "EPERM");
  t.same(await readdir(join(root, "scratch", opened.exportId)), ["export.json"], "no scratch");
  let parent = second.pointId;
  for (const value of [31, 32, 33]) {
    parent = (await scene.point(store, parent, { 0: { 0: value } })).pointId;
    t.equal(await blockOver(uri, 0), 11, "it reads as it was");
  }
  await exports.close();
  t.same(await readdir(join(root, "scratch")), [], "nothing is left of it");
});

void t.test("an unknown point is NOT_FOUND and leaves nothing", async (t) => {
  const { scene, exports } = await start(t);
  const none = exports.openExport(scene.vm.vmId, scene.vm.vmId, "test-failover");
  await t.rejects(none, { code: "NOT_FOUND" });
  t.same(exports.list(), []);
});

void t.test(
  "T26: a point that is open is not given up, and its files stay until it is closed",
  async (t) => {
    const { scene, store, first, second, exports, root } = await start(t);
    const { vmId } = scene.vm;
    const layers = () => readdir(join(root, "vms", vmId, "epochs", "0000000001", "layers"));
    const opened = await exports.openExport(vmId, second.pointId, "test-failover");
    await scene.point(store, second.pointId, { 0: { 1: 33 } });
    t.equal(await keepNewest(store, vmId, 1), true);
    t.same(
      (await store.points(vmId)).map(({ sequence }) => sequence),
      [2, 3],
      "the oldest went into the base, the open one stays",
    );
    t.equal((await layers()).length, 4, "what it reads is still there");
    t.equal(await blockOver(opened.disks[0]?.uri ?? "", 1), 22);
    const again = await exports.openExport(vmId, second.pointId, "test-failover");
    t.equal(await blockOver(again.disks[0]?.uri ?? "", 1), 22, "also from the base");
    for (const { exportId } of [opened, again]) await exports.closeExport(exportId);
    t.equal(await keepNewest(store, vmId, 2), true);
    t.equal((await layers()).length, 1, "T36: then the files go");
    t.equal(await keepNewest(store, vmId, 1), true);
    t.equal((await store.points(vmId)).length, 1);
    t.equal(first.sequence, 1);
  },
);

void t.test(
  "T26: what a failover lies on stays as it is; what is above it is merged",
  async (t) => {
    const { root, scene, store, second, exports } = await start(t);
    const { vmId } = scene.vm;
    let parent = second;
    for (const value of [33, 44, 55]) {
      parent = await scene.point(store, parent.pointId, { 0: { 1: value } });
    }
    const { generation: from } = await store.status(vmId);
    const promotion = newHolder(from, second.pointId);
    await store.succeed({ vmId, from, to: promotion });
    t.equal(await keepNewest(store, vmId, 1), false, "the base waits");
    const left = await store.retention.list(vmId);
    t.same(
      left.map(({ point }) => point.sequence),
      [2, 5],
    );
    t.equal(left.at(-1)?.storedBytes, GRANULARITY, "three layers became one");
    const opened = await exports.openExport(vmId, second.pointId, "test-failover");
    t.equal(await blockOver(opened.disks[0]?.uri ?? "", 1), 22);
    await exports.close();
    await store.close();

    const again = await openNativeStore(t, root);
    t.equal(await keepNewest(again, vmId, 1), false, "also after a restart");
    const back = { ...newHolder(promotion.generation, parent.pointId), holderId: from.id };
    await again.succeed({ vmId, from: promotion.generation, to: { ...back, cause: "cancelled" } });
    t.equal(await keepNewest(again, vmId, 1), true);
    t.same((await readBlocks(again, binding, vmId, parent.pointId))[0]?.slice(0, 3), [11, 55, 0]);
  },
);

function newHolder(from: Generation, forkPointId: string): LineageEntry {
  const id = randomUUID();
  return successorOf(from, id, { forkPointId, holderId: id, cause: "unplanned-failover" });
}

void t.test("what an export of an earlier version wrote is kept, and said", async (t) => {
  const { root, store, exports } = await start(t);
  await exports.close();
  const exportId = randomUUID();
  const directory = join(root, "scratch", exportId);
  await mkdir(directory);
  const former = { name: "tidemark-export", version: 1 };
  const body = { exportId, vmId: exportId, pointId: exportId, kind: "failover" };
  await writeFile(join(directory, "export.json"), encodeDocument(former, body));
  const again = await openExports(t, store, root);
  t.equal(again.list().length, 0);
  t.match(again.warnings, [/^Cannot drop export .*: because .* version 1 .* are kept in /]);
  await access(join(directory, "export.json"));
});
