/**
 * The cuts of a consistency group (VMs of one host that are cut under one barrier),
 * as recovery points carry them. Each VM's delta travels on its own, so a cut may
 * have a point at every member's replica or only at some: what belongs together is
 * found by `groupId` and cut number.
 */
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
