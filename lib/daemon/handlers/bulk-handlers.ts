import { problemOf } from "../../management/problem-of.js";
import type { VmOutcomes, VmSelector } from "../../management/bulk-schemas.js";
import type { BULK_ROUTES } from "../../management/routes/bulk-routes.js";
import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import type { HostParts } from "../host-parts.js";
import { removeVm } from "../remove-vm.js";
import { selectVms } from "../select-vms.js";
import { extendedVms, findReplica, ownReplications, type Replicated } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function bulkHandlers(parts: HostParts): TopicHandlers<typeof BULK_ROUTES> {
  const { engine, maintenance } = parts;
  return {
    vmSuspendMany: (selector) =>
      forEach(parts, selector, async ({ relationshipId }) => {
        await maintenance.forget(relationshipId);
        await engine.suspend(relationshipId);
      }),
    vmResumeMany: (selector) =>
      forEach(parts, selector, async ({ relationshipId }) => {
        await maintenance.forget(relationshipId);
        await engine.resume(relationshipId);
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

/** Each by itself: one that fails is no reason to leave out the others; a VM's one after the other. */
async function forEach(
  parts: HostParts,
  selector: VmSelector,
  work: (vm: Replicated) => Promise<void>,
): Promise<VmOutcomes> {
  const selected = await selectVms(parts, selector, await extendedVms(parts));
  const inTurn = new Map<string, Promise<unknown>>();
  return Promise.all(
    selected.map(async (each) => {
      const { vmId, name } = each;
      const before = inTurn.get(vmId) ?? Promise.resolve();
      const working = before.then(() => work(each)).then(() => null, toTidemarkError);
      inTurn.set(vmId, working);
      const error = await working;
      return { vmId, name, error: error === null ? null : problemOf(error) };
    }),
  );
}

function requireNotExtended(extended: readonly Replicated[], vmId: string): void {
  const found = extended.find((each) => each.vmId === vmId);
  if (found === undefined) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot delete the replica of ${found.name}: because it is replicated on from here.`,
    { hint: `End that first: tidemark vm remove ${found.name}.` },
  );
}

async function maintenanceBody(parts: HostParts) {
  const { maintenance } = parts;
  const all = [...ownReplications(parts), ...(await extendedVms(parts))];
  const found = (id: string) => all.find(({ relationshipId }) => relationshipId === id);
  return {
    sinceMs: maintenance.sinceMs,
    vms: maintenance.relationshipIds.map((id) => {
      return { vmId: found(id)?.vmId ?? id, name: found(id)?.name ?? id };
    }),
  };
}
