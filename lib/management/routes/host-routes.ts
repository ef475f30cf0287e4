import * as schema from "../schemas.js";
import { nothing, route } from "./route.js";

export const HOST_ROUTES = {
  hostStatus: route("GET", "/host", nothing, schema.hostStatus, "The host and its VMs"),
} as const;
