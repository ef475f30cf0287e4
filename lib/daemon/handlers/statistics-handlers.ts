import type { STATISTICS_ROUTES } from "../../management/routes/statistics-routes.js";
import type { VmStatisticsBody } from "../../management/statistics-schemas.js";
import type { RelationshipStatus } from "../../model/relationship.js";
import type { ReplicaVmSummary } from "../../replica/vm-summary.js";
import type { HostParts } from "../host-parts.js";
import { findReplica, findReplicated, primaryReplication, type Replicated } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

const DAY_MS = 86_400_000;

export function statisticsHandlers(parts: HostParts): TopicHandlers<typeof STATISTICS_ROUTES> {
  const { statistics, settings, engine } = parts;
  return {
    vmStatistics: (_body, { vm }) => describe(parts, vm),
    vmStatisticsReset: async (_body, { vm }) => {
      const id = await idOf(parts, vm);
      await statistics.reset(id);
      if (engine.has(id)) engine.forgetMissed(id);
      return describe(parts, vm);
    },
    vmHistory: async ({ fromMs, untilMs, of }, { vm }) => {
      const { spanMs } = statistics.limits;
      const query = {
        fromMs: fromMs ?? Date.now() - DAY_MS,
        untilMs: untilMs ?? Number.MAX_SAFE_INTEGER,
        spanMs: of === "cycles" ? 0 : spanMs,
      };
      return [...(await statistics.history(await idOf(parts, vm), query))];
    },
    monitoringSet: async (wanted) => {
      const { monitoring: present } = settings.values;
      const monitoring = {
        intervalMs: wanted.intervalMs ?? present.intervalMs,
        startMinutes: wanted.startMinutes ?? present.startMinutes,
      };
      await settings.update({ monitoring });
      return monitoring;
    },
  };
}

/** Of the relationship, or of the VM that is kept here. */
async function idOf(parts: HostParts, vm: string | undefined): Promise<string> {
  const own = primaryReplication(parts, vm);
  return own === null ? (await findReplica(parts, vm)).vmId : own.relationshipId;
}

async function describe(parts: HostParts, vm: string | undefined): Promise<VmStatisticsBody> {
  const own = primaryReplication(parts, vm);
  if (own !== null) return describeRelationship(parts, own, "primary");
  const summary = await findReplica(parts, vm);
  if (!parts.engine.has(summary.vmId)) return describeReplica(parts, summary);
  return describeRelationship(parts, await findReplicated(parts, vm), "replica");
}

async function describeRelationship(
  { engine, statistics }: HostParts,
  { vmId, name, relationshipId }: Replicated,
  role: VmStatisticsBody["role"],
): Promise<VmStatisticsBody> {
  const { current, previous, ...facts } = await statistics.statistics(relationshipId);
  const status = await engine.status(relationshipId);
  const { state, health, healthReasons, lagMs, pendingBytes, lastCycle } = status;
  return {
    ...facts,
    vmId,
    name,
    role,
    state,
    health,
    healthReasons: [...healthReasons],
    currentTask: taskOf(status),
    lastCycleKind: lastCycle?.kind ?? null,
    lagMs,
    pendingBytes,
    lastPointTakenAtMs: null,
    lastApplicationPointAtMs: status.applicationConsistency?.lastPointAtMs ?? null,
    lastPointValidUntilMs: lagMs === null ? null : Date.now() - lagMs,
    current,
    previous,
  };
}

function taskOf({ state }: RelationshipStatus): VmStatisticsBody["currentTask"] {
  return state === "initial-replication" || state === "resynchronizing" ? state : null;
}

async function describeReplica(
  parts: HostParts,
  summary: ReplicaVmSummary,
): Promise<VmStatisticsBody> {
  const { lastTestFailoverAtMs, lastTestFailover } = await parts.statistics.statistics(
    summary.vmId,
  );
  const validUntilMs = summary.head?.validUntilMs ?? null;
  return {
    vmId: summary.vmId,
    name: summary.vm?.name ?? summary.vmId,
    role: "replica",
    state: null,
    health: null,
    healthReasons: [],
    currentTask: null,
    lastCycleKind: null,
    lagMs: validUntilMs === null ? null : Math.max(0, Date.now() - validUntilMs),
    pendingBytes: null,
    lastCycleAtMs: null,
    lastApplicationPointAtMs: await lastApplicationPoint(parts, summary.vmId),
    lastPointTakenAtMs: summary.head?.takenAtMs ?? null,
    lastPointValidUntilMs: validUntilMs,
    lastTestFailoverAtMs,
    lastTestFailover,
    initialReplicationBytes: null,
    current: null,
    previous: null,
  };
}

async function lastApplicationPoint(
  { replicaStore }: HostParts,
  vmId: string,
): Promise<number | null> {
  const points = await replicaStore.points(vmId).catch(() => []);
  const last = points.findLast(({ consistency }) => consistency === "application");
  return last?.takenAtMs ?? null;
}
