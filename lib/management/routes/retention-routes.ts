import * as schema from "../retention-schemas.js";
import { nothing, route } from "./route.js";

export const RETENTION_ROUTES = {
  pointEdit: route(
    "PATCH",
    "/vms/:vm/points/:point",
    schema.pointEditRequest,
    schema.keptPoint,
    "Label a recovery point, pin it against retention, or unpin it",
  ),
  pointDelete: route(
    "DELETE",
    "/vms/:vm/points/:point",
    nothing,
    nothing,
    "Give up a recovery point; the others stay as they are",
  ),
  retentionStatus: route(
    "GET",
    "/vms/:vm/retention",
    nothing,
    schema.retentionStatus,
    "Which of its recovery points are kept, and the room that they take",
  ),
  retentionSet: route(
    "PUT",
    "/vms/:vm/retention",
    schema.retentionRequest,
    schema.retentionStatus,
    "Keep other points of this VM than the host's settings say, or as they say",
  ),
} as const;
