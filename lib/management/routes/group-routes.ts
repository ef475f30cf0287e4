import * as schema from "../schemas.js";
import { nothing, route } from "./route.js";

export const GROUP_ROUTES = {
  groupList: route(
    "GET",
    "/groups",
    nothing,
    schema.groupStatus.array(),
    "The consistency groups that are cut here",
  ),
  groupPointList: route(
    "GET",
    "/groups/:group/points",
    nothing,
    schema.groupRecoveryPoint.array(),
    "A group's cuts, and the recovery points that belong to each",
  ),
} as const;
