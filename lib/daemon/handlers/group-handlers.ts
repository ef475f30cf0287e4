import type { GROUP_ROUTES } from "../../management/routes/group-routes.js";
import { readGroupCuts } from "../choose-group-cut.js";
import type { HostParts } from "../host-parts.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function groupHandlers(parts: HostParts): TopicHandlers<typeof GROUP_ROUTES> {
  return {
    groupList: async () => [...parts.engine.groups()],
    groupPointList: async (_body, { group }) => [
      ...(await readGroupCuts(parts.replicaStore, group ?? "")),
    ],
  };
}
