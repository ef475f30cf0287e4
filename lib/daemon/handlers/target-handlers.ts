import type { TARGET_ROUTES } from "../../management/routes/target-routes.js";
import { addTarget } from "../add-target.js";
import type { HostParts } from "../host-parts.js";
import { describePrimary } from "./describe-vm.js";
import { findPrimary } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function targetHandlers(parts: HostParts): TopicHandlers<typeof TARGET_ROUTES> {
  return {
    vmAddTarget: async (request, { vm }) => {
      const definition = findPrimary(parts, vm);
      await addTarget(parts, definition, request);
      return describePrimary(parts, definition);
    },
  };
}
