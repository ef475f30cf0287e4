import * as schema from "../copy-schemas.js";
import { failoverRequest, pointExport } from "../schemas.js";
import { nothing, route } from "./route.js";

export const COPY_ROUTES = {
  readOnlyOpen: route(
    "POST",
    "/vms/:vm/read-only-exports",
    failoverRequest,
    pointExport,
    "Serve a recovery point's disks read-only",
  ),
  copyStart: route(
    "POST",
    "/vms/:vm/copies",
    schema.copyRequest,
    schema.pointCopy,
    "Copy a recovery point to files",
  ),
  copyStatus: route("GET", "/copies/:copy", nothing, schema.pointCopy, "How far a copy is"),
  copyStop: route("DELETE", "/copies/:copy", nothing, schema.pointCopy, "Stop a copy"),
  pointDifference: route(
    "POST",
    "/vms/:vm/differences",
    schema.differenceRequest,
    schema.pointDifference,
    "What changed between two recovery points",
  ),
} as const;
