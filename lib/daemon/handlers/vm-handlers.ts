import type { VM_ROUTES } from "../../management/routes/vm-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import { planEnable } from "../dry-run/plan-enable.js";
import { enableVm } from "../enable-vm.js";
import { attachVm, detachVm } from "../live/attach-vm.js";
import type { HostParts } from "../host-parts.js";
import { removeVm } from "../remove-vm.js";
import {
  describeAll,
  describePrimary,
  describeReplica,
  describeReplicated,
} from "./describe-vm.js";
import {
  findPrimary,
  findReplica,
  findReplicated,
  primaryReplication,
  replicationsOf,
} from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function vmHandlers(parts: HostParts): TopicHandlers<typeof VM_ROUTES> {
  const { engine } = parts;
  return {
    vmList: () => describeAll(parts),
    vmEnable: async (request) => describePrimary(parts, await enableVm(parts, request)),
    vmEnableDryRun: (request) => planEnable(parts, request),
    vmStatus: (_body, { vm }) => describe(parts, vm),
    vmSuspend: async (_body, { vm }) => {
      await forEachReplication(parts, vm, (id) => engine.suspend(id));
      return describe(parts, vm);
    },
    vmResume: async (_body, { vm }) => {
      await forEachReplication(parts, vm, (id) => engine.resume(id));
      return describe(parts, vm);
    },
    vmRemove: async (_body, { vm }) => {
      for (const each of await replicationsMeant(parts, vm)) await removeVm(parts, each, false);
      return {};
    },
    vmAttach: async ({ hypervisor }, { vm }) => {
      const definition = findPrimary(parts, vm);
      await attachVm(parts, definition, hypervisor);
      return describePrimary(parts, findPrimary(parts, definition.vmId));
    },
    vmDetach: async (_body, { vm }) => {
      const definition = findPrimary(parts, vm);
      await detachVm(parts, definition);
      return describePrimary(parts, findPrimary(parts, definition.vmId));
    },
    vmGroup: async ({ group }, { vm }) => {
      const definition = findPrimary(parts, vm);
      await engine.setGroup(definition.vmId, group);
      return describePrimary(parts, definition);
    },
  };
}

/** A VM's name means all of its targets. */
async function replicationsMeant(parts: HostParts, vm: string | undefined) {
  const definition = parts.vms.find(vm ?? "");
  if (definition === null) return [await findReplicated(parts, vm)];
  return replicationsOf(parts, definition);
}

async function forEachReplication(
  parts: HostParts,
  vm: string | undefined,
  work: (relationshipId: string) => Promise<void>,
): Promise<void> {
  for (const { relationshipId } of await replicationsMeant(parts, vm)) {
    await parts.maintenance.forget(relationshipId);
    await work(relationshipId);
  }
}

async function describe(parts: HostParts, vm: string | undefined): Promise<VmStatus> {
  const own = primaryReplication(parts, vm);
  if (own !== null) return describeReplicated(parts, own);
  return describeReplica(parts, await findReplica(parts, vm));
}
