/** A replica that becomes another primary's: the cause "taken-over" of ReplicaEndpoint.succeed(). */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import type { Succession } from "#lib/model/lineage.js";
import { refused, type ReplicaScene } from "./replica-scene.js";
import { deltaDigest, segmentSource } from "./segment-bytes.js";

/** By a primary that is new to the replica. */
function takeOver(scene: ReplicaScene, forkPointId: string | null): Succession {
  return scene.succession("taken-over", forkPointId, randomUUID());
}

async function lineageLength({ endpoint, vm }: ReplicaScene): Promise<number | undefined> {
  return (await endpoint.status(vm.vmId)).lineage?.length;
}

export const TAKEOVER_CONTRACT: Record<string, (t: Test, scene: ReplicaScene) => Promise<void>> = {
  "T40: a replica that is taken over takes nothing of its former primary": async (t, scene) => {
    await scene.enable();
    const { endpoint } = scene;
    const { vmId } = scene.vm;
    const first = await scene.point(null, { 1: 11 });
    const open = scene.header({ parentPointId: first.pointId });
    const segment = scene.segment(open.deltaId, 0, { 1: 22 });
    await endpoint.openDelta(open);
    await endpoint.putSegment(segmentSource(segment));
    const order = takeOver(scene, first.pointId);
    const status = await endpoint.succeed(order);
    t.same([status.generation, status.head?.pointId], [order.to.generation, first.pointId]);
    await refused(t, "FENCED", scene.commit(open, deltaDigest([segment])));
    await refused(t, "FENCED", endpoint.openDelta(scene.header({ ...open, attempt: 2 })));
    await refused(t, "FENCED", endpoint.openStaging(vmId, scene.generation));
    await refused(t, "FENCED", endpoint.enable(scene.vm, scene.generation));
    await refused(t, "FENCED", endpoint.deleteVm(vmId, scene.generation));
    await refused(t, "FENCED", endpoint.blockHashes(scene.hashRequest(first.pointId, [0, 4096])));
    await refused(
      t,
      "FENCED",
      endpoint.succeed(scene.succession("planned-failover", first.pointId)),
    );
    await refused(t, "FENCED", endpoint.succeed(takeOver(scene, first.pointId)));
    t.equal(await scene.headId(), first.pointId);
  },

  "the points of a replica that is taken over stay, and its next one follows them": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const second = await scene.point(first.pointId, { 2: 22 });
    const order = takeOver(scene, second.pointId);
    await scene.endpoint.succeed(order);
    t.same(await scene.endpoint.points(scene.vm.vmId), [first, second]);
    scene.generation = order.to.generation;
    const asked = scene.hashRequest(second.pointId, [0, 4096]);
    t.equal((await scene.endpoint.blockHashes(asked)).length, 32);
    const third = await scene.point(second.pointId, { 3: 33 });
    await scene.expectBlocks(t, first.pointId, { 1: 11, 2: 0, 3: 0 });
    await scene.expectBlocks(t, third.pointId, { 1: 11, 2: 22, 3: 33 });
    await scene.endpoint.enable(scene.vm, scene.generation);
  },

  "T44: a replica is not taken over while the VM was failed over to its host": async (t, scene) => {
    await scene.enable();
    const { pointId } = await scene.point(null, { 1: 11 });
    const former = scene.generation;
    for (const cause of ["unplanned-failover", "planned-failover"] as const) {
      const promotion = scene.succession(cause, pointId);
      await scene.endpoint.succeed(promotion);
      scene.generation = promotion.to.generation;
      const before = await lineageLength(scene);
      await refused(t, "CONFLICT", scene.endpoint.succeed(takeOver(scene, pointId)));
      t.equal(await lineageLength(scene), before, "nothing is changed");
      const back = scene.succession("cancelled", pointId, former.id);
      await scene.endpoint.succeed(back);
      scene.generation = back.to.generation;
    }
    const order = takeOver(scene, pointId);
    await scene.endpoint.succeed(order);
    scene.generation = order.to.generation;
    await scene.point(pointId, { 1: 22 });
  },

  "a replica is taken over from its head and from nothing else": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const seen = takeOver(scene, first.pointId);
    const second = await scene.point(first.pointId, { 1: 22 });
    for (const order of [seen, takeOver(scene, null), takeOver(scene, randomUUID())]) {
      await refused(t, "PARENT_MISMATCH", scene.endpoint.succeed(order));
    }
    t.equal(await lineageLength(scene), 1);
    const third = await scene.point(second.pointId, { 1: 33 });
    await scene.endpoint.succeed(takeOver(scene, third.pointId));
  },

  "an order to take a replica over is the same when it is repeated": async (t, scene) => {
    await scene.enable();
    const { pointId } = await scene.point(null, { 1: 11 });
    const order = takeOver(scene, pointId);
    await scene.endpoint.succeed(order);
    const again = await scene.endpoint.succeed(order);
    t.same([again.generation, again.lineage?.length], [order.to.generation, 2]);
    scene.generation = order.to.generation;
    await scene.point(pointId, { 1: 22 });
    const late = await scene.endpoint.succeed(order);
    t.equal(late.lineage?.length, 2, "also when the next point is there");
  },

  "what was staged before a replica was taken over is dropped": async (t, scene) => {
    await scene.enable();
    const { pointId } = await scene.point(null, { 1: 11 });
    await scene.endpoint.openStaging(scene.vm.vmId, scene.generation);
    const { stagingSessionId } = await scene.endpoint.succeed(takeOver(scene, pointId));
    t.equal(stagingSessionId, null);
  },

  "a replica without a point is taken over, too": async (t, scene) => {
    await scene.enable();
    const former = scene.generation;
    await refused(t, "PARENT_MISMATCH", scene.endpoint.succeed(takeOver(scene, randomUUID())));
    const order = takeOver(scene, null);
    const { head, generation } = await scene.endpoint.succeed(order);
    t.same([head, generation], [null, order.to.generation]);
    await refused(t, "FENCED", scene.endpoint.openDelta(scene.header({ generation: former })));
    scene.generation = order.to.generation;
    const point = await scene.point(null, { 1: 11 });
    await scene.expectBlocks(t, point.pointId, { 1: 11 });
  },
};
