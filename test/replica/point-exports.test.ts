/** Recovery points opened as disks. */
import { access } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import t, { type Test } from "tap";
import { PointExports } from "#lib/replica/point-exports.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
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

void t.test("an unknown point is NOT_FOUND and leaves nothing", async (t) => {
  const { scene, exports } = await start(t);
  const none = exports.openExport(scene.vm.vmId, scene.vm.vmId, "test-failover");
  await t.rejects(none, { code: "NOT_FOUND" });
  t.same(exports.list(), []);
});

void t.test("T26: while a point is open nothing is merged", async (t) => {
  const { scene, store, first, second, exports } = await start(t);
  const { vmId } = scene.vm;
  const opened = await exports.openExport(vmId, first.pointId, "test-failover");
  t.equal(await store.compact(vmId, 1), false);
  t.equal((await store.points(vmId)).length, 2);
  t.equal(await blockOver(opened.disks[0]?.uri ?? "", 1), 12);
  await exports.closeExport(opened.exportId);
  t.equal(await store.compact(vmId, 1), true);
  t.same(
    (await store.points(vmId)).map(({ pointId }) => pointId),
    [second.pointId],
  );
  t.same(await readBlocks(store, binding, vmId, second.pointId), [
    [11, 22, 0, 0, 0, 0, 0, 0],
    [13, 0, 0, 0, 0, 0, 0, 0],
  ]);
});

void t.test(
  "a failover's writes survive a restart, at the same address; a test's do not",
  async (t) => {
    const { root, scene, store, second, exports } = await start(t);
    const { vmId } = scene.vm;
    const failover = await exports.openExport(vmId, second.pointId, "failover");
    const test = await exports.openExport(vmId, second.pointId, "test-failover");
    const uri = failover.disks[0]?.uri ?? "";
    {
      await using client = await NbdClient.connect(socketOf(uri), "vda");
      await client.write(2 * GRANULARITY, Buffer.alloc(GRANULARITY, 0x77));
    }
    await exports.close();
    await store.close();
    await t.rejects(access(join(root, "scratch", test.exportId)), { code: "ENOENT" });

    const storeAgain = await openNativeStore(t, root);
    const again = await openExports(t, storeAgain, root);
    t.same(again.warnings, []);
    t.same(again.list(), [failover]);
    t.equal(await blockOver(uri, 2), 0x77);
    t.equal(await blockOver(uri, 1), 22);
    t.equal(await storeAgain.compact(vmId, 1), false, "its point is in use again");
    await again.closeExport(failover.exportId);
    await t.rejects(connected(socketOf(uri)), /ENOENT|ECONNREFUSED/);
  },
);

void t.test("a failover that cannot be served again is kept, and said", async (t) => {
  const { root, scene, store, second, exports } = await start(t);
  const failover = await exports.openExport(scene.vm.vmId, second.pointId, "failover");
  await exports.close();
  await store.close();
  const otherRoot = await temporaryDirectory(t);
  const emptyStore = await openNativeStore(t, otherRoot);
  const again = await openExports(t, emptyStore, root);
  t.equal(again.list().length, 0);
  t.match(again.warnings, [/^Cannot serve export .* again: because Cannot find VM/]);
  await access(join(root, "scratch", failover.exportId));
});

function connected(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve();
    });
    socket.on("error", reject);
  });
}
