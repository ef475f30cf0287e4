import type { VM_ROUTES } from "../../management/routes/vm-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import { planEnable } from "../dry-run/plan-enable.js";
import { enableVm } from "../enable-vm.js";
import type { HostParts } from "../host-parts.js";
import { removeVm } from "../remove-vm.js";
import { describeAll, describePrimary, describeReplica } from "./describe-vm.js";
import { findPrimary, findReplica, findReplicated } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function vmHandlers(parts: HostParts): TopicHandlers<typeof VM_ROUTES> {
  const { engine, maintenance } = parts;
  return {
    vmList: () => describeAll(parts),
    vmEnable: async (request) => describePrimary(parts, await enableVm(parts, request)),
    vmEnableDryRun: (request) => planEnable(parts, request),
    vmStatus: (_body, { vm }) => describe(parts, vm),
    vmSuspend: async (_body, { vm }) => {
      const { vmId } = await findReplicated(parts, vm);
      await maintenance.forget(vmId);
      await engine.suspend(vmId);
      return describe(parts, vm);
    },
    vmResume: async (_body, { vm }) => {
      const { vmId } = await findReplicated(parts, vm);
      await maintenance.forget(vmId);
      await engine.resume(vmId);
      return describe(parts, vm);
    },
    vmRemove: async (_body, { vm }) => {
      await removeVm(parts, await findReplicated(parts, vm), false);
      return {};
    },
    vmGroup: async ({ group }, { vm }) => {
      const definition = findPrimary(parts, vm);
      await engine.setGroup(definition.vmId, group);
      return describePrimary(parts, definition);
    },
  };
}

async function describe(parts: HostParts, vm: string | undefined): Promise<VmStatus> {
  const definition = parts.vms.find(vm ?? "");
  if (definition !== null) return describePrimary(parts, definition);
  return describeReplica(parts, await findReplica(parts, vm));
}
