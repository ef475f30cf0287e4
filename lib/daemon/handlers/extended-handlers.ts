import type { EXTENDED_ROUTES } from "../../management/routes/extended-routes.js";
import { extendReplication } from "../extend-replication.js";
import type { HostParts } from "../host-parts.js";
import { describeReplica } from "./describe-vm.js";
import { findReplica } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function extendedHandlers(parts: HostParts): TopicHandlers<typeof EXTENDED_ROUTES> {
  return {
    vmExtend: async (request, { vm }) => {
      const summary = await findReplica(parts, vm);
      await extendReplication(parts, summary, request);
      return describeReplica(parts, summary);
    },
  };
}
