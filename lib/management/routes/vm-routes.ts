import { enablePlan } from "../dry-run-schemas.js";
import * as schema from "../schemas.js";
import { nothing, route } from "./route.js";

export const VM_ROUTES = {
  vmList: route("GET", "/vms", nothing, schema.vmStatus.array(), "All VMs"),
  vmEnable: route(
    "POST",
    "/vms",
    schema.vmEnableRequest,
    schema.vmStatus,
    "Enable replication of a VM",
  ),
  vmEnableDryRun: route(
    "POST",
    "/vms/dry-run",
    schema.vmEnableRequest,
    enablePlan,
    "What enabling replication of a VM would do; changes nothing",
  ),
  vmStatus: route("GET", "/vms/:vm", nothing, schema.vmStatus, "One VM"),
  vmSuspend: route("POST", "/vms/:vm/suspend", nothing, schema.vmStatus, "Suspend its replication"),
  vmResume: route("POST", "/vms/:vm/resume", nothing, schema.vmStatus, "Resume its replication"),
  vmRemove: route("DELETE", "/vms/:vm", nothing, nothing, "Remove its replication"),
  vmAttach: route(
    "POST",
    "/vms/:vm/attach",
    schema.vmAttachRequest,
    schema.vmStatus,
    "Have it write by Tidemark whenever it runs",
  ),
  vmDetach: route(
    "POST",
    "/vms/:vm/detach",
    nothing,
    schema.vmStatus,
    "Have it run without Tidemark until it is attached again",
  ),
  vmGroup: route(
    "POST",
    "/vms/:vm/group",
    schema.vmGroupRequest,
    schema.vmStatus,
    "Join or leave a consistency group",
  ),
} as const;
