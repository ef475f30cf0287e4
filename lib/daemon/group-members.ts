import { TidemarkError } from "../model/errors.js";
import type { RelationshipState, RelationshipStatus } from "../model/relationship.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";
import { readGroupCuts } from "./choose-group-cut.js";
import type { Failovers } from "./failovers.js";
import type { PrimaryContacts } from "./primary-contacts.js";
import type { PrimaryVms } from "./primary-vms.js";

export interface GroupParts {
  readonly replicaStore: ReplicaStore;
  readonly failovers: Failovers;
  readonly contacts: PrimaryContacts;
  readonly vms: PrimaryVms;
  readonly engine: ReplicationEngine;
}

/** How a member stands on this host, for orders about its failover. */
export type MemberStanding =
  | "primary"
  /** A planned failover from here is under way. */
  | "handing over"
  /** Its replica is here. */
  | "replica"
  /** It runs here from a recovery point. */
  | "failed over"
  | "unknown here";

export interface GroupMember {
  readonly vmId: string;
  readonly name: string;
  readonly standing: MemberStanding;
}

/** The VMs that are cut in that group here, and those of the newest cut that points here have. NOT_FOUND. */
export async function groupMembers(parts: GroupParts, group: string): Promise<GroupMember[]> {
  const { engine, replicaStore } = parts;
  const own = await groupStatuses(engine, group);
  const newest = (await readGroupCuts(replicaStore, group)).at(-1);
  const vmIds = new Set([
    ...own.map(({ settings }) => settings.vmId),
    ...(newest?.points ?? []).map(({ vmId }) => vmId),
  ]);
  if (vmIds.size === 0) throw noSuchGroup(group);
  const nameOf = await vmNames(parts);
  return Promise.all(
    [...vmIds].map(async (vmId) => ({
      vmId,
      name: nameOf(vmId),
      standing: await standingOf(parts, vmId),
    })),
  );
}

/** A VM that is cut in the group on this host. */
export interface CutMember {
  readonly vmId: string;
  readonly name: string;
  readonly state: RelationshipState;
  readonly hasPoint: boolean;
}

/** NOT_FOUND. */
export async function cutMembers({ engine, vms }: GroupParts, group: string): Promise<CutMember[]> {
  const statuses = await groupStatuses(engine, group);
  if (statuses.length === 0) throw noSuchGroup(group);
  return statuses.map(({ settings: { vmId }, state, headPointId }) => ({
    vmId,
    name: vms.find(vmId)?.name ?? vmId,
    state,
    hasPoint: headPointId !== null,
  }));
}

async function groupStatuses(
  engine: GroupParts["engine"],
  group: string,
): Promise<RelationshipStatus[]> {
  return (await engine.statuses()).filter(({ settings }) => settings.group === group);
}

export async function vmNames({
  replicaStore,
  vms,
}: Pick<GroupParts, "replicaStore" | "vms">): Promise<(vmId: string) => string> {
  const summaries = await replicaStore.listVms();
  return (vmId) =>
    summaries.find((summary) => summary.vmId === vmId)?.vm?.name ?? vms.find(vmId)?.name ?? vmId;
}

async function standingOf(
  { replicaStore, vms, engine }: GroupParts,
  vmId: string,
): Promise<MemberStanding> {
  // Also of a VM that came here by a failover and is going back.
  const state = engine.has(vmId) ? engine.standingOf(vmId).state : null;
  if (state === "handing-over") return "handing over";
  const summary = (await replicaStore.listVms()).find((each) => each.vmId === vmId);
  const isPromoted = summary !== undefined && summary.promotion !== null;
  if (isPromoted && state !== "failed-over") return "failed over";
  if (vms.find(vmId) !== null) return "primary";
  return summary === undefined ? "unknown here" : "replica";
}

function noSuchGroup(group: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot find group ${group}: because no VM of this host is in it, and no recovery point here is of a cut of it.`,
    { hint: "`tidemark group list` on the primary shows its groups." },
  );
}
