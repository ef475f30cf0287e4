import { extendRequest } from "../extended-schemas.js";
import { vmStatus } from "../schemas.js";
import { route } from "./route.js";

export const EXTENDED_ROUTES = {
  vmExtend: route(
    "POST",
    "/vms/:vm/extend",
    extendRequest,
    vmStatus,
    "Replicate a VM that is kept here on to a third host (on the replica)",
  ),
} as const;
