import type { COPY_ROUTES } from "../../management/routes/copy-routes.js";
import { diffPoints } from "../../replica/diff-points.js";
import type { HostParts } from "../host-parts.js";
import { findReplica } from "./find-vm.js";
import { choosePoint, openPoint } from "./open-point.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function copyHandlers(parts: HostParts): TopicHandlers<typeof COPY_ROUTES> {
  return {
    readOnlyOpen: ({ pointId }, { vm }) => openPoint(parts, vm, pointId, "read-only"),
    copyStart: async ({ pointId, format, directory }, { vm }) => {
      const chosen = await choosePoint(parts, vm, pointId);
      return parts.pointCopies.start({ ...chosen, format, parentDirectory: directory });
    },
    copyStatus: async (_body, { copy }) => parts.pointCopies.find(copy ?? ""),
    copyStop: async (_body, { copy }) => {
      await parts.pointCopies.stop(copy ?? "");
      return parts.pointCopies.find(copy ?? "");
    },
    pointDifference: async (request, { vm }) => {
      const { vmId } = await findReplica(parts, vm);
      return parts.replicaStore.withVm(vmId, (tools, replica) =>
        diffPoints(tools, replica, request),
      );
    },
  };
}
