/** Who may write to a replica: the rules of ReplicaEndpoint.succeed(). */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import { refused, type ReplicaScene } from "./replica-scene.js";
import { deltaDigest, segmentSource } from "./segment-bytes.js";

export const LINEAGE_CONTRACT: Record<string, (t: Test, scene: ReplicaScene) => Promise<void>> = {
  "a lineage begins with the generation that the VM was enabled with": async (t, scene) => {
    await scene.enable();
    const { lineage } = await scene.endpoint.status(scene.vm.vmId);
    const { generation } = scene;
    t.match(lineage, [{ generation, parentId: null, holderId: generation.id, cause: "enabled" }]);
    t.equal(lineage?.length, 1);
  },

  "T37: after a promotion everything of the generation before is refused": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const open = scene.header({ parentPointId: first.pointId });
    const segment = scene.segment(open.deltaId, 0, { 1: 22 });
    await scene.endpoint.openDelta(open);
    await scene.endpoint.putSegment(segmentSource(segment));
    const { vmId } = scene.vm;
    const promotion = scene.succession("unplanned-failover", first.pointId);
    const status = await scene.endpoint.succeed(promotion);
    t.same(status.generation, promotion.to.generation);
    await refused(t, "FENCED", scene.commit(open, deltaDigest([segment])));
    await refused(t, "FENCED", scene.endpoint.openDelta(scene.header({ ...open, attempt: 2 })));
    await refused(t, "FENCED", scene.endpoint.openStaging(vmId, scene.generation));
    await refused(t, "FENCED", scene.endpoint.enable(scene.vm, scene.generation));
    await refused(t, "FENCED", scene.endpoint.deleteVm(vmId, scene.generation));
    t.equal(await scene.headId(), first.pointId, "the head is what it was");
  },

  "a promotion is the same when it is repeated, and none follows twice": async (t, scene) => {
    await scene.enable();
    const { pointId } = await scene.point(null, { 1: 11 });
    const promotion = scene.succession("unplanned-failover", pointId);
    await scene.endpoint.succeed(promotion);
    const again = await scene.endpoint.succeed(promotion);
    t.equal(again.lineage?.length, 2);
    await refused(t, "FENCED", scene.endpoint.succeed(scene.succession("cancelled", pointId)));
    const number = { ...promotion.to.generation, number: 7 };
    const gap = { ...promotion, to: { ...promotion.to, generation: number } };
    await refused(t, "FENCED", scene.endpoint.succeed(gap));
  },

  "a failover drops what was staged": async (t, scene) => {
    await scene.enable();
    const { pointId } = await scene.point(null, { 1: 11 });
    await scene.endpoint.openStaging(scene.vm.vmId, scene.generation);
    const status = await scene.endpoint.succeed(scene.succession("unplanned-failover", pointId));
    t.equal(status.stagingSessionId, null);
  },

  "a planned failover goes on from the head and from nothing else": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const second = await scene.point(first.pointId, { 1: 22 });
    const early = scene.succession("planned-failover", first.pointId);
    await refused(t, "PARENT_MISMATCH", scene.endpoint.succeed(early));
    const unknown = scene.succession("unplanned-failover", randomUUID());
    await refused(t, "PARENT_MISMATCH", scene.endpoint.succeed(unknown));
    t.equal((await scene.endpoint.status(scene.vm.vmId)).lineage?.length, 1);
    await scene.endpoint.succeed(scene.succession("planned-failover", second.pointId));
  },

  "who gets the VM back goes on by the new generation": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const former = scene.generation;
    const promotion = scene.succession("unplanned-failover", first.pointId);
    await scene.endpoint.succeed(promotion);
    scene.generation = promotion.to.generation;
    const back = scene.succession("cancelled", first.pointId, former.id);
    await scene.endpoint.succeed(back);
    scene.generation = back.to.generation;
    const second = await scene.point(first.pointId, { 1: 22 });
    await scene.expectBlocks(t, second.pointId, { 1: 22 });
    scene.generation = former;
    await refused(t, "FENCED", scene.point(second.pointId, { 1: 33 }));
  },
};
