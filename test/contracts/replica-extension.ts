import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import type { DeltaHeader } from "#lib/model/delta.js";
import { refused, type ReplicaScene } from "./replica-scene.js";
import { deltaDigest, segmentSource } from "./segment-bytes.js";

/** Announced and committed by one request. */
function commitWhole(scene: ReplicaScene, header: DeltaHeader, digest = deltaDigest([])) {
  const { vmId, deltaId, attempt, generation } = header;
  return scene.endpoint.commit({ vmId, deltaId, attempt, generation, digest, header });
}

function emptyHeader(scene: ReplicaScene, parentPointId: string | null): DeltaHeader {
  return scene.header({ parentPointId, segmentCount: 0 });
}

/** An empty delta that its commit announces. */
export const EXTENSION_CONTRACT: Record<string, (t: Test, scene: ReplicaScene) => Promise<void>> = {
  "a commit that announces an empty delta extends the head": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 1 });
    const empty = emptyHeader(scene, first.pointId);
    const extended = await commitWhole(scene, empty);
    t.same(extended, { ...first, validUntilMs: empty.cut.takenAtMs });
    t.same(await commitWhole(scene, empty), extended, "also when repeated");
    t.same(await scene.endpoint.points(scene.vm.vmId), [extended]);
    const next = await scene.point(first.pointId, { 2: 2 });
    t.equal(next.sequence, 2);
    await refused(t, "PARENT_MISMATCH", commitWhole(scene, emptyHeader(scene, first.pointId)));
    await scene.expectBlocks(t, next.pointId, { 1: 1, 2: 2 });
  },

  "one that comes late leaves the delta alone that is on its way": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 1 });
    const late = emptyHeader(scene, first.pointId);
    const header = scene.header({ parentPointId: first.pointId });
    const segment = scene.segment(header.deltaId, 0, { 2: 2 });
    await scene.endpoint.openDelta(header);
    await scene.endpoint.putSegment(segmentSource(segment));
    await commitWhole(scene, late);
    const point = await scene.commit(header, deltaDigest([segment]));
    t.equal(point?.pointId, header.deltaId);
    await scene.expectBlocks(t, header.deltaId, { 1: 1, 2: 2 });
  },

  "one of other disks than the head's makes a point, and the next one extends it": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11, 40: 44 });
    scene.resize(32);
    const cut = await commitWhole(scene, emptyHeader(scene, first.pointId));
    t.equal(cut?.sequence, 2);
    const sizeInBlocks = await scene.sizeInBlocks(cut?.pointId ?? "");
    if (sizeInBlocks !== null) t.equal(sizeInBlocks, 32);
    const extended = await commitWhole(scene, emptyHeader(scene, cut?.pointId ?? null));
    t.equal(extended?.pointId, cut?.pointId);
  },

  "one of another generation, or with content, is refused and changes nothing": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 1 });
    const empty = emptyHeader(scene, first.pointId);
    const generation = { number: 2, id: randomUUID() };
    await refused(t, "FENCED", commitWhole(scene, { ...empty, generation }));
    await refused(t, "INVALID_ARGUMENT", commitWhole(scene, { ...empty, segmentCount: 1 }));
    const stagingSessionId = randomUUID();
    await refused(t, "INVALID_ARGUMENT", commitWhole(scene, { ...empty, stagingSessionId }));
    await refused(t, "CORRUPT", commitWhole(scene, empty, "00".repeat(32)));
    const { vmId, deltaId, attempt } = empty;
    const other = { vmId, deltaId: randomUUID(), attempt, generation: scene.generation };
    const digest = deltaDigest([]);
    const mixed = scene.endpoint.commit({ ...other, digest, header: { ...empty, deltaId } });
    await refused(t, "INVALID_ARGUMENT", mixed);
    t.same(await scene.endpoint.points(vmId), [first]);
  },
};
