import { TidemarkError } from "../model/errors.js";
import type { GroupRecoveryPoint } from "../model/group-points.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { TestFailoverRequest } from "../replica/test-failovers.js";
import {
  type CutChoice,
  fits,
  type NameOfVm,
  noSuchCut,
  readGroupCuts,
  requestsOf,
} from "./choose-group-cut.js";

export interface FailoverCut {
  readonly cut: {
    readonly groupId: string;
    readonly name: string;
    readonly cutNumber: number;
    readonly takenAtMs: number;
  };
  /** A member with its point of the cut; one that runs here already goes on from that point. */
  readonly members: readonly (TestFailoverRequest & { readonly isFailedOver: boolean })[];
}

/**
 * The cut that a group is to go on from: the one asked for, or the newest complete one that
 * the members that run here already go on from too. So an order that was interrupted is
 * finished with the same cut, whatever has been committed meanwhile. NOT_FOUND; CONFLICT
 * names the member that lacks its point, or that goes on from another.
 */
export async function chooseFailoverCut(
  store: ReplicaStore,
  group: string,
  choice: CutChoice,
  nameOf: NameOfVm,
): Promise<FailoverCut> {
  const cuts = await readGroupCuts(store, group);
  const forks = await forksOf(store);
  const strayed = ({ points }: GroupRecoveryPoint) =>
    points.filter(({ vmId, pointId }) => forks.has(vmId) && forks.get(vmId) !== pointId);
  const candidates = cuts.filter((cut) => fits(cut, choice));
  const newest = candidates.at(-1);
  if (newest === undefined) throw noSuchCut(group, choice, cuts.length);
  const chosen = candidates.findLast((cut) => strayed(cut).length === 0);
  if (chosen === undefined) {
    throw goesOnFromAnother(
      newest,
      strayed(newest).map(({ vmId }) => nameOf(vmId)),
    );
  }
  const { groupId, name, takenAtMs } = chosen;
  const members = requestsOf(chosen, nameOf).map((request) => ({
    ...request,
    isFailedOver: forks.has(request.vmId),
  }));
  return { cut: { groupId, name, cutNumber: chosen.cutNumber, takenAtMs }, members };
}

/** The point that each VM which runs here goes on from. */
async function forksOf(store: ReplicaStore): Promise<ReadonlyMap<string, string | null>> {
  const summaries = await store.listVms();
  return new Map(
    summaries.flatMap(({ vmId, promotion }) =>
      promotion === null ? [] : [[vmId, promotion.forkPointId] as const],
    ),
  );
}

function goesOnFromAnother(
  { name, cutNumber }: GroupRecoveryPoint,
  strayed: readonly string[],
): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot fail group ${name} over to cut ${cutNumber}: because ${strayed.join(", ")} was failed over to another point already.`,
    {
      hint: `Cancel that first (\`tidemark group cancel-failover ${name}\`), or choose the cut that it is at.`,
    },
  );
}
