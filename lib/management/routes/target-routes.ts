import { vmStatus } from "../schemas.js";
import { targetRequest } from "../target-schemas.js";
import { route } from "./route.js";

export const TARGET_ROUTES = {
  vmAddTarget: route(
    "POST",
    "/vms/:vm/targets",
    targetRequest,
    vmStatus,
    "Replicate a VM to one more host",
  ),
} as const;
