import { problemOf } from "../../management/problem-of.js";
import type { VmOutcomes, VmSelector } from "../../management/bulk-schemas.js";
import type { BULK_ROUTES } from "../../management/routes/bulk-routes.js";
import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import type { HostParts } from "../host-parts.js";
import { removeVm } from "../remove-vm.js";
import { selectVms } from "../select-vms.js";
import { extendedVms, findReplica, type ReplicatedVmName } from "./find-vm.js";
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
      requireNotExtended(await extendedVms(parts), vmId);
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
  work: (vm: ReplicatedVmName) => Promise<void>,
): Promise<VmOutcomes> {
  const selected = await selectVms(parts, selector, await extendedVms(parts));
  return Promise.all(
    selected.map(async (vm) => {
      const error = await work(vm).then(() => null, toTidemarkError);
      return { vmId: vm.vmId, name: vm.name, error: error === null ? null : problemOf(error) };
    }),
  );
}

function requireNotExtended(extended: readonly ReplicatedVmName[], vmId: string): void {
  const found = extended.find((each) => each.vmId === vmId);
  if (found === undefined) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot delete the replica of ${found.name}: because it is replicated on from here.`,
    { hint: `End that first: tidemark vm remove ${found.name}.` },
  );
}

async function maintenanceBody(parts: HostParts) {
  const { maintenance, vms } = parts;
  const named = [...vms.definitions(), ...(await extendedVms(parts))];
  const nameOf = (id: string) => named.find(({ vmId }) => vmId === id)?.name ?? id;
  return {
    sinceMs: maintenance.sinceMs,
    vms: maintenance.vmIds.map((vmId) => ({ vmId, name: nameOf(vmId) })),
  };
}
