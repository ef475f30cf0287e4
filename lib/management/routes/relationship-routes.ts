import { vmStatus } from "../schemas.js";
import * as transfers from "../transfer-schemas.js";
import { nothing, route } from "./route.js";

export const RELATIONSHIP_ROUTES = {
  vmSettings: route(
    "PATCH",
    "/vms/:vm/settings",
    transfers.vmSettingsRequest,
    vmStatus,
    "Change the settings of its replication, from the next cycle on",
  ),
  vmResync: route(
    "POST",
    "/vms/:vm/resynchronization",
    nothing,
    vmStatus,
    "Compare what is suspect with the replica now, whatever the policy",
  ),
  initialStart: route(
    "POST",
    "/vms/:vm/initial-replication",
    transfers.initialStartRequest,
    vmStatus,
    "Start initial replication, now or at a time",
  ),
  initialCancel: route(
    "DELETE",
    "/vms/:vm/initial-replication",
    nothing,
    vmStatus,
    "Give up initial replication; it may be started again",
  ),
  transferSettings: route(
    "GET",
    "/host/transfers",
    nothing,
    transfers.transferSettings,
    "What all relationships of the host share",
  ),
  transferSettingsChange: route(
    "PATCH",
    "/host/transfers",
    transfers.transferSettingsRequest,
    transfers.transferSettings,
    "Change what all relationships of the host share",
  ),
} as const;
