import type { FIRST_COPY_ROUTES } from "../../management/routes/first-copy-routes.js";
import type { HostParts } from "../host-parts.js";
import { newFirstCopy } from "../new-first-copy.js";
import { describePrimary } from "./describe-vm.js";
import { findPrimary, findReplica } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function firstCopyHandlers(parts: HostParts): TopicHandlers<typeof FIRST_COPY_ROUTES> {
  const { engine, firstCopies } = parts;
  return {
    firstCopySet: async (request, { vm }) => {
      const definition = findPrimary(parts, vm);
      const { vmId, name } = definition;
      engine.requireNoPoint(vmId);
      await engine.setFirstCopy(vmId, await newFirstCopy(parts, name, request));
      return describePrimary(parts, definition);
    },
    mediaImport: ({ directory, ...opener }) => firstCopies.importMedium(directory, opener),
    vmSeed: async ({ disks }, { vm }) => {
      await firstCopies.seed((await findReplica(parts, vm)).vmId, disks);
      return {};
    },
  };
}
