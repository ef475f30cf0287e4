import { cancelRequest, shutDownRequest } from "../failover-schemas.js";
import { failoverRequest, reverseRequest, vmStatus } from "../schemas.js";
import { nothing, route } from "./route.js";

export const FAILOVER_ROUTES = {
  failover: route(
    "POST",
    "/vms/:vm/failover",
    failoverRequest,
    vmStatus,
    "Run the VM here from a recovery point, unless its primary was in contact lately (on the replica)",
  ),
  plannedFailover: route(
    "POST",
    "/vms/:vm/planned-failover",
    shutDownRequest,
    vmStatus,
    "Hand the VM over to its replica without any loss (on the primary)",
  ),
  vmReverse: route(
    "POST",
    "/vms/:vm/reverse",
    reverseRequest,
    vmStatus,
    "Replicate a VM that was failed over to the host that had it before (on the replica)",
  ),
  failoverCommit: route(
    "POST",
    "/vms/:vm/failover/commit",
    nothing,
    vmStatus,
    "Complete a failover: its recovery points are given up, its disks become plain ones (on the replica)",
  ),
  failoverCancel: route(
    "POST",
    "/vms/:vm/failover/cancel",
    cancelRequest,
    vmStatus,
    "Cancel a failover: on the replica, or a planned one that is under way on the primary",
  ),
} as const;
