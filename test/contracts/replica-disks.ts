/** The part of the replica's contract that is about disks that come and go. */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import { HASH_BYTES } from "#lib/model/block-hashes.js";
import type { DiskGeometry } from "#lib/model/disk.js";
import { GRANULARITY, refused, type ReplicaScene } from "./replica-scene.js";
import { deltaDigest } from "./segment-bytes.js";

type Rule = (t: Test, scene: ReplicaScene) => Promise<void>;

function newDisk(name: string, blocks: number): DiskGeometry {
  const geometry = { sizeBytes: blocks * GRANULARITY, granularityBytes: GRANULARITY };
  return { diskId: randomUUID(), name, ...geometry };
}

/** A point with no changes at all, of the scene's present disks. */
async function emptyPoint(scene: ReplicaScene, parentPointId: string | null) {
  const empty = scene.header({ parentPointId, segmentCount: 0 });
  await scene.endpoint.openDelta(empty);
  return scene.commit(empty, deltaDigest([]));
}

export const DISKS_CONTRACT: Record<string, Rule> = {
  "T34: disks come and go with the points that were cut of them": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const added = newDisk("vdc", 4);
    const [vda, vdb] = scene.vm.disks;
    if (vda === undefined || vdb === undefined) throw new Error("the VM has two disks");
    scene.vm = { ...scene.vm, disks: [added, vda] };
    const told = await scene.endpoint.enable(scene.vm, scene.generation);
    t.same(told.vm.disks, scene.vm.disks);
    t.equal(told.head?.pointId, first.pointId, "the head stays");
    const second = await scene.point(first.pointId, { 0: 77, 3: 78 });
    t.same(await scene.diskSizesInBlocks(first.pointId), [64, 8.125]);
    t.same(await scene.diskSizesInBlocks(second.pointId), [4, 64]);
    await scene.expectBlocks(t, second.pointId, { 0: 77, 1: 0, 3: 78 });
    await scene.expectBlocks(t, second.pointId, { 1: 11 }, 1);
    await scene.expectBlocks(t, first.pointId, { 1: 11 });
    scene.vm = { ...scene.vm, disks: [vda] };
    const third = await emptyPoint(scene, second.pointId);
    t.equal(third?.sequence, 3, "that a disk is gone makes a point");
    t.same(await scene.diskSizesInBlocks(third?.pointId ?? ""), [64]);
    await scene.expectBlocks(t, third?.pointId ?? "", { 1: 11 });
  },

  "a disk that comes back has nothing of what it had": async (t, scene) => {
    await scene.enable();
    const [vda, vdb] = scene.vm.disks;
    if (vda === undefined || vdb === undefined) throw new Error("the VM has two disks");
    const first = await scene.point(null, { 1: 11, 2: 12 });
    scene.vm = { ...scene.vm, disks: [vdb] };
    const second = await emptyPoint(scene, first.pointId);
    scene.vm = { ...scene.vm, disks: [vda, vdb] };
    const third = await scene.point(second?.pointId ?? "", { 2: 22 });
    await scene.expectBlocks(t, third.pointId, { 1: 0, 2: 22 });
    const fourth = await scene.point(third.pointId, { 3: 33 });
    await scene.expectBlocks(t, fourth.pointId, { 1: 0, 2: 22, 3: 33 });
    await scene.expectBlocks(t, first.pointId, { 1: 11, 2: 12 });
  },

  "an empty disk that comes makes a point, and then no more": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    scene.vm = { ...scene.vm, disks: [...scene.vm.disks, newDisk("vdc", 2)] };
    const second = await emptyPoint(scene, first.pointId);
    t.equal(second?.sequence, 2);
    t.equal((await emptyPoint(scene, second?.pointId ?? ""))?.pointId, second?.pointId);
  },

  "disks that are not replicated belong to the point": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const excluded = newDisk("swap", 16);
    scene.vm = { ...scene.vm, excludedDisks: [excluded] };
    const told = await scene.endpoint.enable(scene.vm, scene.generation);
    t.same(told.vm.excludedDisks, [excluded]);
    const header = scene.header({
      parentPointId: first.pointId,
      segmentCount: 0,
      excludedDisks: [excluded],
    });
    await scene.endpoint.openDelta(header);
    const second = await scene.commit(header, deltaDigest([]));
    t.equal(second?.sequence, 2, "that it is there makes a point");
    t.same((await scene.endpoint.status(scene.vm.vmId)).vm, scene.vm);
  },

  "blocks are hashed of the disk that is meant, whatever its number is by now": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const [vda, vdb] = scene.vm.disks;
    if (vda === undefined || vdb === undefined) throw new Error("the VM has two disks");
    const request = scene.hashRequest(first.pointId, [GRANULARITY, GRANULARITY]);
    const expected = await scene.endpoint.blockHashes(request);
    const added = newDisk("vdc", 4);
    scene.vm = { ...scene.vm, disks: [added, vdb, vda] };
    await scene.endpoint.enable(scene.vm, scene.generation);
    const asked = (diskId: string) => scene.endpoint.blockHashes({ ...request, diskId });
    t.same(Buffer.from(await asked(vda.diskId)), Buffer.from(expected));
    const nothing = Buffer.alloc(HASH_BYTES);
    t.same(Buffer.from(await asked(added.diskId)), nothing, "equal to nothing");
    const byNumber = await scene.endpoint.blockHashes({ ...request, diskIndex: 2 });
    t.same(Buffer.from(byNumber), Buffer.from(expected), "the number is that of the last list");
  },

  "two disks of one id or name are refused": async (t, scene) => {
    await scene.enable();
    const { endpoint, vm, generation } = scene;
    const [vda] = vm.disks;
    if (vda === undefined) throw new Error("the VM has a disk");
    const twice = { ...vm, disks: [vda, { ...vda, name: "other" }] };
    await refused(t, "INVALID_ARGUMENT", endpoint.enable(twice, generation));
    const excluded = { ...vm, excludedDisks: [newDisk(vda.name, 1)] };
    await refused(t, "INVALID_ARGUMENT", endpoint.enable(excluded, generation));
    const header = scene.header({ disks: twice.disks });
    await refused(t, "INVALID_ARGUMENT", endpoint.openDelta(header));
  },
};
