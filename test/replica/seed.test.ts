/** A first copy that begins from an existing disk at the replica. */
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { hashContent } from "#lib/model/block-hashes.js";
import { toTidemarkError } from "#lib/model/errors.js";
import type { FillFromFile, SeedDisk } from "#lib/model/seed.js";
import { fillFromFile } from "#lib/replica/fill-from-file.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { seedVm } from "#lib/replica/seed-vm.js";
import { binding } from "#lib/tracking/binding.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { readDisk, Scene } from "./support/scene.js";

const DISK_BYTES = 8 * 4096;

function seed(
  store: ReplicaStore,
  vmId: string,
  disks: readonly SeedDisk[],
  fill: FillFromFile = fillFromFile,
): Promise<void> {
  return store.withVm(vmId, (tools, replica) => seedVm(tools, replica, disks, fill));
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "done",
    (thrown: unknown) => toTidemarkError(thrown).code,
  );
}

/** Some blocks, a hole, and an end that is in no whole block. */
async function existingDisk(directory: string): Promise<{ path: string; content: Buffer }> {
  const path = join(directory, "existing.raw");
  const content = Buffer.alloc(DISK_BYTES);
  content.fill(0x11, 0, 4096);
  content.fill(0x22, 5 * 4096, 6 * 4096 + 700);
  await writeFile(path, content.subarray(0, 6 * 4096 + 700));
  return { path, content };
}

async function seededScene(t: Test) {
  const directory = await temporaryDirectory(t);
  const store = await openNativeStore(t, join(directory, "store"));
  const scene = new Scene();
  await store.enable(scene.vm, scene.generation);
  return { directory, store, scene, vmId: scene.vm.vmId, ...(await existingDisk(directory)) };
}

void t.test("an existing disk is hashed, changed and taken in, and stays as it is", async (t) => {
  const { store, scene, vmId, path, content } = await seededScene(t);
  const before = [await readFile(path), (await stat(path)).mtimeMs];
  await seed(store, vmId, [{ name: "vda", path }]);
  const { stagingSessionId, head } = await store.status(vmId);
  t.equal(head, null, "it is no recovery point");
  const request = { vmId, generation: scene.generation, pointId: stagingSessionId ?? "" };
  const extents = [0, DISK_BYTES];
  for (const [diskIndex, expected] of [content, Buffer.alloc(DISK_BYTES)].entries()) {
    const hashes = await store.blockHashes({ ...request, diskIndex, blockBytes: 4096, extents });
    t.same(Buffer.from(hashes), Buffer.from(hashContent(expected, extents, 4096)));
  }
  const header = scene.header({ stagingSessionId });
  const point = await scene.deliver(store, header, { 0: { 0: 0, 2: 0x33 }, 1: { 1: 0x44 } });
  content.fill(0, 0, 4096);
  content.fill(0x33, 2 * 4096, 3 * 4096);
  t.ok((await readDisk(store, binding, vmId, point?.pointId ?? "", 0)).equals(content));
  t.same([await readFile(path), (await stat(path)).mtimeMs], before);
  t.equal(await codeOf(seed(store, vmId, [{ name: "vda", path }])), "ALREADY_EXISTS");
});

void t.test("what cannot be begun from is refused, and nothing is changed", async (t) => {
  const { directory, store, scene, vmId, path } = await seededScene(t);
  const large = join(directory, "large.raw");
  await writeFile(large, Buffer.alloc(DISK_BYTES + 1));
  const attempts: readonly (readonly [string, readonly SeedDisk[]])[] = [
    ["NOT_FOUND", [{ name: "vdz", path }]],
    ["NOT_FOUND", [{ name: "vda", path: `${path}.none` }]],
    ["INVALID_ARGUMENT", [{ name: "vda", path: large }]],
    [
      "INVALID_ARGUMENT",
      [
        { name: "vda", path },
        { name: "vda", path },
      ],
    ],
  ];
  for (const [code, disks] of attempts) {
    t.equal(await codeOf(seed(store, vmId, disks)), code, JSON.stringify(disks));
    t.equal((await store.status(vmId)).stagingSessionId, null);
  }
  const writer = await binding.openFileDevice(path, false, false, "exclusive");
  t.equal(
    await codeOf(seed(store, vmId, [{ name: "vda", path }])),
    "IN_USE",
    "somebody writes to it",
  );
  await writer.close();
  await store.openStaging(vmId, scene.generation);
  t.equal(
    await codeOf(seed(store, vmId, [{ name: "vda", path }])),
    "CONFLICT",
    "a copy is under way",
  );
});

void t.test("T25 T36: one that is cut short leaves nothing, and may be begun again", async (t) => {
  const { directory, store, vmId, path, content } = await seededScene(t);
  const failing: FillFromFile = async (slot, part, signal) => {
    await fillFromFile(slot, part, signal);
    throw new Error("cut short");
  };
  t.equal(await codeOf(seed(store, vmId, [{ name: "vda", path }], failing)), "INTERNAL");
  await store.close();
  const again = await openNativeStore(t, join(directory, "store"));
  t.equal((await again.status(vmId)).stagingSessionId, null);
  const epoch = join(directory, "store", "vms", vmId, "epochs", "0000000001");
  t.same(await readdir(join(epoch, "staging")), []);
  t.same(await readdir(join(epoch, "layers")), []);
  await seed(again, vmId, [{ name: "vda", path }]);
  await again.close();
  const restarted = await openNativeStore(t, join(directory, "store"));
  const { stagingSessionId, generation } = await restarted.status(vmId);
  t.ok(stagingSessionId, "the session survives a restart");
  const extents = [0, DISK_BYTES];
  const hashes = await restarted.blockHashes({
    vmId,
    generation,
    pointId: stagingSessionId ?? "",
    diskIndex: 0,
    blockBytes: 4096,
    extents,
  });
  t.same(Buffer.from(hashes), Buffer.from(hashContent(content, extents, 4096)));
});
