import { TidemarkError } from "../../model/errors.js";
import { failoverLoss } from "../../model/failover-loss.js";
import type { ChosenPoint, ChosenPoints, PlanRunKind } from "../../model/plan-run.js";
import type { PlanFailover, PlanPoint } from "../../model/recovery-plan.js";
import type { RecoveryPoint } from "../../model/replica-endpoint.js";
import { chooseFailoverCut } from "../choose-failover-cut.js";
import { chooseGroupCut, type CutChoice } from "../choose-group-cut.js";
import { type GroupParts, vmNames } from "../group-members.js";
import { findReplica } from "../handlers/find-vm.js";

type Parts = Pick<GroupParts, "replicaStore" | "vms">;

/** Which points a step of a plan uses. NOT_FOUND, CONFLICT. */
export async function choosePlanPoints(
  parts: Parts,
  { group, vms = [], point = {} }: PlanFailover,
  kind: PlanRunKind,
  nowMs: number,
): Promise<ChosenPoints> {
  if (group !== undefined) return chooseOfGroup(parts, group, point, kind, nowMs);
  const chosen: ChosenPoint[] = [];
  for (const name of vms) {
    const { vmId } = await findReplica(parts, name);
    const points = await parts.replicaStore.points(vmId);
    chosen.push(describe(vmId, name, points, choose(name, points, point), nowMs));
  }
  return { cut: null, vms: chosen };
}

async function chooseOfGroup(
  parts: Parts,
  group: string,
  point: PlanPoint,
  kind: PlanRunKind,
  nowMs: number,
): Promise<ChosenPoints> {
  const { replicaStore } = parts;
  const choice: CutChoice = { cutNumber: point.cutNumber, atOrBeforeMs: timeOf(point) };
  const nameOf = await vmNames(parts);
  const { requests, identity } =
    kind === "test"
      ? await chooseGroupCut(replicaStore, group, choice)
      : await chooseFailoverCut(replicaStore, group, choice, nameOf).then(({ cut, members }) => ({
          identity: cut,
          requests: members,
        }));
  const vms: ChosenPoint[] = [];
  for (const { vmId, pointId } of requests) {
    const points = await replicaStore.points(vmId);
    const found = points.find((each) => each.pointId === pointId);
    vms.push(describe(vmId, nameOf(vmId), points, found, nowMs));
  }
  const { groupId, name, cutNumber } = identity;
  return { cut: { groupId, name, cutNumber }, vms };
}

function choose(
  name: string,
  points: readonly RecoveryPoint[],
  point: PlanPoint,
): RecoveryPoint | undefined {
  const atMostMs = timeOf(point) ?? Number.POSITIVE_INFINITY;
  const found = points.findLast(({ takenAtMs }) => takenAtMs <= atMostMs);
  if (found !== undefined || points.length === 0) return found;
  throw new TidemarkError(
    "NOT_FOUND",
    `Cannot choose a recovery point of ${name}: because all of them are later than ${point.atOrBefore ?? ""}.`,
    { hint: `\`tidemark vm points ${name}\` lists them.` },
  );
}

function timeOf({ atOrBefore }: PlanPoint): number | undefined {
  return atOrBefore === undefined ? undefined : Date.parse(atOrBefore);
}

function describe(
  vmId: string,
  name: string,
  points: readonly RecoveryPoint[],
  point: RecoveryPoint | undefined,
  nowMs: number,
): ChosenPoint {
  const head = points.at(-1);
  if (point === undefined || head === undefined) {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot choose a recovery point of ${name}: because it has none yet.`,
      { hint: "Wait until the initial replication has ended." },
    );
  }
  const { pointId, sequence: pointSequence, takenAtMs } = point;
  return { vmId, name, pointId, pointSequence, takenAtMs, loss: failoverLoss(point, head, nowMs) };
}
