/** What recovery points say of their group's cuts, and which of them belong together. */
import type { Cut } from "./delta.js";
import type { GroupCut, GroupPoint } from "./group-cut.js";
import type { RecoveryPoint } from "./replica-endpoint.js";

/** What a new point says of its group; nothing when its VM is in none. */
export function groupOfNewPoint({ group }: Cut): Pick<RecoveryPoint, "group"> {
  if (group === undefined) return {};
  return { group: { ...group, validUntilCutNumber: group.cutNumber } };
}

/** What the head says after an empty cut: that it stands for this one too. */
export function groupOfExtendedPoint(head: RecoveryPoint, cut: Cut): Pick<RecoveryPoint, "group"> {
  if (cut.group === undefined) return head.group === undefined ? {} : { group: head.group };
  // Nothing was written in between, so that it stands for each cut from its own to this one.
  if (head.group?.groupId !== cut.group.groupId) return groupOfNewPoint(cut);
  const validUntilCutNumber = Math.max(head.group.validUntilCutNumber, cut.group.cutNumber);
  return { group: { ...head.group, validUntilCutNumber } };
}

export interface VmPoints {
  readonly vmId: string;
  readonly points: readonly RecoveryPoint[];
}

/** The recovery points that belong to one cut. */
export interface GroupRecoveryPoint {
  readonly groupId: string;
  readonly name: string;
  readonly cutNumber: number;
  readonly takenAtMs: number;
  /** By member; null: there is no such point here. */
  readonly points: readonly { readonly vmId: string; readonly pointId: string | null }[];
  /** Every member has its point here. */
  readonly isComplete: boolean;
}

/** The cuts of the groups of that name (or id) that any VM has a point of, oldest first. */
export function findGroupPoints(
  nameOrId: string,
  vms: readonly VmPoints[],
): readonly GroupRecoveryPoint[] {
  const cuts = new Map<string, { group: GroupCut; takenAtMs: number }>();
  for (const { group, takenAtMs } of vms.flatMap(({ points }) => points)) {
    if (group === undefined || (group.name !== nameOrId && group.groupId !== nameOrId)) continue;
    cuts.set(`${group.groupId}/${group.cutNumber}`, { group, takenAtMs });
  }
  return [...cuts.values()]
    .map(({ group, takenAtMs }) => groupPointOf(group, takenAtMs, vms))
    .sort((a, b) => a.takenAtMs - b.takenAtMs || a.cutNumber - b.cutNumber);
}

function groupPointOf(
  { groupId, name, cutNumber, memberVmIds }: GroupCut,
  takenAtMs: number,
  vms: readonly VmPoints[],
): GroupRecoveryPoint {
  const points = memberVmIds.map((vmId) => {
    const own = vms.find((vm) => vm.vmId === vmId)?.points ?? [];
    const found = own.find(({ group }) => group !== undefined && stands(group, groupId, cutNumber));
    return { vmId, pointId: found?.pointId ?? null };
  });
  const isComplete = points.every(({ pointId }) => pointId !== null);
  return { groupId, name, cutNumber, takenAtMs, points, isComplete };
}

function stands(group: GroupPoint, groupId: string, cutNumber: number): boolean {
  const isWithin = group.cutNumber <= cutNumber && cutNumber <= group.validUntilCutNumber;
  return group.groupId === groupId && isWithin;
}
