import { z } from "zod";
import * as firstCopies from "../first-copy-schemas.js";
import * as schema from "../schemas.js";
import { nothing, route } from "./route.js";

export const FIRST_COPY_ROUTES = {
  firstCopySet: route(
    "PUT",
    "/vms/:vm/first-copy",
    firstCopies.firstCopyRequest,
    schema.vmStatus,
    "Make its first copy over the network, or on a medium",
  ),
  mediaImport: route(
    "POST",
    "/initial-media/import",
    firstCopies.mediaImportRequest,
    z.object({ vmId: z.uuid(), name: z.string(), point: schema.recoveryPoint }),
    "Take a medium in as a VM's first recovery point",
  ),
  vmSeed: route(
    "POST",
    "/vms/:vm/seed",
    firstCopies.vmSeedRequest,
    nothing,
    "Begin the first copy of a VM that is replicated to this host from existing disks",
  ),
} as const;
