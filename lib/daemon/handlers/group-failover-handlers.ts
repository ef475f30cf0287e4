import type { GroupOrderReportBody } from "../../management/group-failover-schemas.js";
import { problemOf } from "../../management/problem-of.js";
import type { GROUP_FAILOVER_ROUTES } from "../../management/routes/group-failover-routes.js";
import type { GroupOrderReport } from "../../model/group-failover.js";
import type { HostParts } from "../host-parts.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function groupFailoverHandlers({
  groupFailovers,
}: HostParts): TopicHandlers<typeof GROUP_FAILOVER_ROUTES> {
  return {
    groupFailover: async ({ force, ...choice }, { group }) =>
      reportBody(await groupFailovers.failOver(group ?? "", choice, force)),
    groupPlannedFailover: async ({ force }, { group }) =>
      reportBody(await groupFailovers.handOver(group ?? "", force)),
    groupFailoverCommit: async (_body, { group }) =>
      reportBody(await groupFailovers.commit(group ?? "")),
    groupFailoverCancel: async ({ force }, { group }) =>
      reportBody(await groupFailovers.cancel(group ?? "", force)),
  };
}

function reportBody({ members, ...report }: GroupOrderReport): GroupOrderReportBody {
  const bodies = members.map(({ error, ...member }) => ({
    ...member,
    error: error === null ? null : problemOf(error),
  }));
  return { ...report, members: bodies };
}
