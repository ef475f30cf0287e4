import { shutDownRequest } from "../failover-schemas.js";
import { groupFailoverRequest, groupOrderReport } from "../group-failover-schemas.js";
import { nothing, route } from "./route.js";

export const GROUP_FAILOVER_ROUTES = {
  groupFailover: route(
    "POST",
    "/groups/:group/failover",
    groupFailoverRequest,
    groupOrderReport,
    "Run all VMs of a group here from one cut; their primary is not asked (on the replica)",
  ),
  groupPlannedFailover: route(
    "POST",
    "/groups/:group/planned-failover",
    shutDownRequest,
    groupOrderReport,
    "Hand all VMs of a group over to their replicas without any loss (on the primary)",
  ),
  groupFailoverCommit: route(
    "POST",
    "/groups/:group/failover/commit",
    nothing,
    groupOrderReport,
    "Complete the failover of all VMs of a group (on the replica)",
  ),
  groupFailoverCancel: route(
    "POST",
    "/groups/:group/failover/cancel",
    shutDownRequest,
    groupOrderReport,
    "Cancel the failover of all VMs of a group: on the replica, or a planned one on the primary",
  ),
} as const;
