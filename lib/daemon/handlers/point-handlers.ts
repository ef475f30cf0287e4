import type { POINT_ROUTES } from "../../management/routes/point-routes.js";
import type { HostParts } from "../host-parts.js";
import { findReplica } from "./find-vm.js";
import { keptPointBody } from "./retention-handlers.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function pointHandlers(parts: HostParts): TopicHandlers<typeof POINT_ROUTES> {
  return {
    pointList: async (_body, { vm }) => {
      const { vmId } = await findReplica(parts, vm);
      const kept = await parts.replicaStore.retention.list(vmId);
      return kept.map(keptPointBody);
    },
    exportClose: async (_body, parameters) => {
      const { export: id = "" } = parameters;
      if (parts.testFailovers.has(id)) await parts.testFailovers.end(id);
      else await parts.pointExports.closeExport(id);
      return {};
    },
  };
}
