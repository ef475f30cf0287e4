import { TidemarkError } from "../model/errors.js";
import { findGroupPoints, type GroupRecoveryPoint } from "../model/group-points.js";
import type { GroupTest } from "../model/test-failover.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { TestFailoverRequest } from "../replica/test-failovers.js";

export interface ChosenCut {
  readonly identity: Omit<GroupTest, "testId">;
  /** One for each member. */
  readonly requests: readonly TestFailoverRequest[];
}

/** Absent members: the newest complete cut. */
export interface CutChoice {
  readonly cutNumber?: number | undefined;
  /** The newest complete one that was taken then or before. */
  readonly atOrBeforeMs?: number | undefined;
}

export type NameOfVm = (vmId: string) => string;

/** The cut asked for, or the newest complete one. NOT_FOUND; CONFLICT when a member lacks its point. */
export async function chooseGroupCut(
  store: ReplicaStore,
  group: string,
  choice: CutChoice,
): Promise<ChosenCut> {
  const cuts = await readGroupCuts(store, group);
  const chosen = cuts.findLast((cut) => fits(cut, choice));
  if (chosen === undefined) throw noSuchCut(group, choice, cuts.length);
  const summaries = await store.listVms();
  const nameOf = (vmId: string) =>
    summaries.find((summary) => summary.vmId === vmId)?.vm?.name ?? vmId;
  return { identity: identityOf(chosen), requests: requestsOf(chosen, nameOf) };
}

/** Oldest first. */
export async function readGroupCuts(
  store: ReplicaStore,
  group: string,
): Promise<readonly GroupRecoveryPoint[]> {
  const summaries = await store.listVms();
  const pointsOf = async (vmId: string) => ({ vmId, points: await store.points(vmId) });
  return findGroupPoints(group, await Promise.all(summaries.map(({ vmId }) => pointsOf(vmId))));
}

export function fits(cut: GroupRecoveryPoint, { cutNumber, atOrBeforeMs }: CutChoice): boolean {
  if (cutNumber !== undefined) return cut.cutNumber === cutNumber;
  return cut.isComplete && cut.takenAtMs <= (atOrBeforeMs ?? Number.POSITIVE_INFINITY);
}

function identityOf({ groupId, name, cutNumber }: GroupRecoveryPoint) {
  return { groupId, name, cutNumber };
}

/** CONFLICT names the members that have no point of the cut here. */
export function requestsOf(
  { name, cutNumber, points }: GroupRecoveryPoint,
  nameOf: NameOfVm,
): TestFailoverRequest[] {
  const missing: string[] = [];
  const requests: TestFailoverRequest[] = [];
  for (const { vmId, pointId } of points) {
    if (pointId === null) missing.push(nameOf(vmId));
    else requests.push({ vmId, pointId });
  }
  if (missing.length === 0) return requests;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot open cut ${cutNumber} of group ${name}: because it has no point of ${missing.join(", ")} here.`,
    { hint: `\`tidemark group points ${name}\` says which cuts are complete.` },
  );
}

export function noSuchCut(
  group: string,
  { cutNumber, atOrBeforeMs }: CutChoice,
  cutCount: number,
): TidemarkError {
  const until = atOrBeforeMs === undefined ? "" : ` until ${new Date(atOrBeforeMs).toISOString()}`;
  const which = cutNumber === undefined ? `complete cut${until}` : `cut ${cutNumber}`;
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot find a ${which} of group ${group}: because the ${cutCount} that have points here are others.`,
    { hint: `\`tidemark group points ${group}\` lists them.` },
  );
}
