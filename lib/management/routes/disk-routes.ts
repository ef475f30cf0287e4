import * as disks from "../disk-schemas.js";
import * as schema from "../schemas.js";
import { route } from "./route.js";

export const DISK_ROUTES = {
  diskAdd: route(
    "POST",
    "/vms/:vm/disks",
    schema.diskSpecification,
    schema.vmStatus,
    "Add a disk to it",
  ),
  diskRemove: route(
    "DELETE",
    "/vms/:vm/disks/:disk",
    disks.diskRemoveRequest,
    schema.vmStatus,
    "Remove a disk from it; older recovery points keep it",
  ),
  diskExclusion: route(
    "PUT",
    "/vms/:vm/disks/:disk/exclusion",
    disks.diskExclusionRequest,
    schema.vmStatus,
    "Leave a disk out of replication, or take it in again",
  ),
  diskResize: route(
    "POST",
    "/vms/:vm/disks/:disk/resize",
    schema.diskResizeRequest,
    schema.vmStatus,
    "Grow a disk",
  ),
} as const;
