import { problemOf } from "../../management/problem-of.js";
import type { VmOutcomes, VmSelector } from "../../management/bulk-schemas.js";
import type { BULK_ROUTES } from "../../management/routes/bulk-routes.js";
import { toTidemarkError } from "../../model/errors.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import { removeVm } from "../remove-vm.js";
import { selectVms } from "../select-vms.js";
import { findReplica } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function bulkHandlers(parts: HostParts): TopicHandlers<typeof BULK_ROUTES> {
  const { engine, maintenance } = parts;
  return {
    vmSuspendMany: (selector) =>
      forEach(parts, selector, async ({ vmId }) => {
        await maintenance.forget(vmId);
        await engine.suspend(vmId);
      }),
    vmResumeMany: (selector) =>
      forEach(parts, selector, async ({ vmId }) => {
        await maintenance.forget(vmId);
        await engine.resume(vmId);
      }),
    vmRemoveMany: ({ deleteReplica, ...selector }) =>
      forEach(parts, selector, (vm) => removeVm(parts, vm, deleteReplica)),
    replicaDelete: async (_body, { vm }) => {
      const { vmId } = await findReplica(parts, vm);
      await parts.replicaStore.deleteReplica(vmId);
      return {};
    },
    maintenance: async () => maintenanceBody(parts),
    maintenanceSet: async ({ isOn }) => {
      await (isOn ? maintenance.begin() : maintenance.end());
      return maintenanceBody(parts);
    },
  };
}

/** Each by itself: one that fails is no reason to leave out the others. */
async function forEach(
  parts: HostParts,
  selector: VmSelector,
  work: (vm: VmDefinition) => Promise<void>,
): Promise<VmOutcomes> {
  const selected = await selectVms(parts, selector);
  return Promise.all(
    selected.map(async (vm) => {
      const error = await work(vm).then(() => null, toTidemarkError);
      return { vmId: vm.vmId, name: vm.name, error: error === null ? null : problemOf(error) };
    }),
  );
}

function maintenanceBody({ maintenance, vms }: HostParts) {
  const nameOf = (vmId: string) => vms.find(vmId)?.name ?? vmId;
  return {
    sinceMs: maintenance.sinceMs,
    vms: maintenance.vmIds.map((vmId) => ({ vmId, name: nameOf(vmId) })),
  };
}
