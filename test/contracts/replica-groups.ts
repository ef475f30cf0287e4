/** The part of the replica's contract that is about consistency groups. */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import type { DeltaHeader } from "#lib/model/delta.js";
import type { ReplicatedVm } from "#lib/model/disk.js";
import type { GroupCut } from "#lib/model/group-cut.js";
import type { RecoveryPoint, ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import { deltaDigest } from "./segment-bytes.js";

interface GroupScene {
  readonly vm: ReplicatedVm;
  readonly endpoint: ReplicaEndpoint;
  enable(): Promise<unknown>;
  header(parts?: Partial<DeltaHeader>): DeltaHeader;
  commit(header: DeltaHeader, digest: string): Promise<RecoveryPoint | null>;
  deliver(header: DeltaHeader, blocks: Record<number, number>): Promise<RecoveryPoint | null>;
}

export const GROUP_CONTRACT: Record<string, (t: Test, scene: GroupScene) => Promise<void>> = {
  "a point names the cut of its group, and stands for later ones until it changes": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const group = (groupId: string, cutNumber: number) => ({
      groupId,
      name: "shop",
      cutNumber,
      memberVmIds: [scene.vm.vmId, randomUUID()],
      takenVmIds: [scene.vm.vmId],
    });
    const header = (cutGroup: GroupCut | undefined, parts: Partial<DeltaHeader> = {}) => {
      const plain = scene.header(parts);
      return { ...plain, cut: { ...plain.cut, group: cutGroup } };
    };
    const empty = async (cutGroup: GroupCut | undefined, parentPointId: string) => {
      const extension = header(cutGroup, { parentPointId, segmentCount: 0 });
      await scene.endpoint.openDelta(extension);
      return scene.commit(extension, deltaDigest([]));
    };
    const [shop, other] = [randomUUID(), randomUUID()];
    const first = group(shop, 7);
    const point = await scene.deliver(header(first), { 1: 1 });
    t.same(point?.group, { ...first, validUntilCutNumber: 7 });
    const pointId = point?.pointId ?? "";
    const extended = { ...first, validUntilCutNumber: 9 };
    t.same((await empty(group(shop, 9), pointId))?.group, extended);
    t.same((await empty(undefined, pointId))?.group, extended, "a cut of the VM alone");
    t.same((await scene.endpoint.points(scene.vm.vmId))[0]?.group, extended);
    const foreign = group(other, 2);
    const moved = { ...foreign, validUntilCutNumber: 2 };
    t.same((await empty(foreign, pointId))?.group, moved, "a cut of another group");
    const alone = await scene.deliver(header(undefined, { parentPointId: pointId }), { 2: 2 });
    t.same(alone?.group, undefined);
  },
};
