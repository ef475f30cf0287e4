import type { DISK_ROUTES } from "../../management/routes/disk-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import { findDisk, requireServed } from "../vm-disk-rules.js";
import { describePrimary } from "./describe-vm.js";
import { findPrimary } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function diskHandlers(parts: HostParts): TopicHandlers<typeof DISK_ROUTES> {
  const { vms, live } = parts;
  return {
    diskAdd: (request, { vm }) =>
      changed(parts, vm, async (vmId) => {
        await vms.addDisk(vmId, request);
        live.find(vmId)?.wake();
      }),
    diskRemove: (options, { vm, disk = "" }) =>
      changed(parts, vm, async (vmId) => {
        const { name } = findDisk(findPrimary(parts, vmId), disk);
        const remove = () => vms.removeDisk(vmId, disk, options);
        await (live.find(vmId)?.withoutDisk(name, remove) ?? remove());
      }),
    diskExclusion: ({ isExcluded }, { vm, disk = "" }) =>
      changed(parts, vm, (vmId) => vms.excludeDisk(vmId, disk, isExcluded)),
    diskResize: ({ sizeBytes, ...options }, { vm, disk = "" }) =>
      changed(parts, vm, (vmId) => vms.resizeDisk(vmId, disk, sizeBytes, options)),
  };
}

/** Between two cycles of the VM. */
async function changed(
  parts: HostParts,
  vm: string | undefined,
  change: (vmId: string) => Promise<void>,
): Promise<VmStatus> {
  const definition = findPrimary(parts, vm);
  const { vmId } = definition;
  await parts.engine.changeDisks(vmId, async () => {
    // Here, where no failover can begin meanwhile.
    requireNotGivenAway(parts, definition);
    await change(vmId);
  });
  return describePrimary(parts, findPrimary(parts, vmId));
}

/** CONFLICT while the VM is being handed over, or is another host's. */
function requireNotGivenAway({ engine }: HostParts, definition: VmDefinition): void {
  requireServed(definition);
  requireServed({ ...definition, isWithheld: engine.givenAwayTo(definition.vmId) !== null });
}
