import { keptPoint } from "../retention-schemas.js";
import { nothing, route } from "./route.js";

export const POINT_ROUTES = {
  pointList: route("GET", "/vms/:vm/points", nothing, keptPoint.array(), "Its recovery points"),
  exportClose: route(
    "DELETE",
    "/exports/:export",
    nothing,
    nothing,
    "End a test failover (a whole group's too, by its own id), or close a point that is open to be read",
  ),
} as const;
