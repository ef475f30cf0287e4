import * as bulk from "../bulk-schemas.js";
import { nothing, route } from "./route.js";

export const BULK_ROUTES = {
  vmSuspendMany: route(
    "POST",
    "/vms/suspend",
    bulk.vmSelector,
    bulk.vmOutcomes,
    "Suspend the replication of all VMs that fit",
  ),
  vmResumeMany: route(
    "POST",
    "/vms/resume",
    bulk.vmSelector,
    bulk.vmOutcomes,
    "Resume the replication of all VMs that fit",
  ),
  vmRemoveMany: route(
    "POST",
    "/vms/remove",
    bulk.vmRemoveManyRequest,
    bulk.vmOutcomes,
    "Remove the replication of all VMs that fit, with or without their replicas",
  ),
  replicaDelete: route(
    "DELETE",
    "/vms/:vm/replica",
    nothing,
    nothing,
    "Delete a replica that is kept here, with all its recovery points",
  ),
  maintenance: route(
    "GET",
    "/host/maintenance",
    nothing,
    bulk.maintenanceStatus,
    "Whether the host is in maintenance",
  ),
  maintenanceSet: route(
    "POST",
    "/host/maintenance",
    bulk.maintenanceRequest,
    bulk.maintenanceStatus,
    "Suspend what is active, or resume just that",
  ),
} as const;
