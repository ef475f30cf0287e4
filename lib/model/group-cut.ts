/**
 * The cuts of a consistency group (VMs of one host that are cut under one barrier),
 * as recovery points carry them. Each VM's delta travels on its own, so a cut may
 * have a point at every member's replica or only at some: what belongs together is
 * found by `groupId` and cut number.
 */
import type { Cut } from "./delta.js";
import type { RecoveryPoint } from "./replica-endpoint.js";

/** What a cut took. */
export interface GroupCut {
  /** UUID; another one when the group was dissolved and made anew under its name. */
  readonly groupId: string;
  readonly name: string;
  /** Names the cut within the group; rises from cut to cut. */
  readonly cutNumber: number;
  /** The group's VMs at the cut. */
  readonly memberVmIds: readonly string[];
  /** Those that were cut; fewer than the members: the cut is incomplete. */
  readonly takenVmIds: readonly string[];
}

export interface GroupPoint extends GroupCut {
  /** Later than cutNumber when nothing had changed until that cut: the point stands for it too. */
  readonly validUntilCutNumber: number;
}

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
