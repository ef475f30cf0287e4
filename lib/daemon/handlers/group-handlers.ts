import type { GROUP_ROUTES } from "../../management/routes/group-routes.js";
import { findGroupPoints } from "../../model/group-points.js";
import type { HostParts } from "../host-parts.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function groupHandlers(parts: HostParts): TopicHandlers<typeof GROUP_ROUTES> {
  return {
    groupList: async () => [...parts.engine.groups()],
    groupPointList: async (_body, { group }) => {
      const store = parts.replicaStore;
      const pointsOf = async (vmId: string) => ({ vmId, points: await store.points(vmId) });
      const vms = await Promise.all((await store.listVms()).map(({ vmId }) => pointsOf(vmId)));
      return [...findGroupPoints(group ?? "", vms)];
    },
  };
}
