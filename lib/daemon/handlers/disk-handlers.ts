import type { DISK_ROUTES } from "../../management/routes/disk-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import { requireServed } from "../vm-disk-rules.js";
import { describePrimary } from "./describe-vm.js";
import { findPrimary } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function diskHandlers(parts: HostParts): TopicHandlers<typeof DISK_ROUTES> {
  const { vms } = parts;
  return {
    diskAdd: (request, { vm }) => changed(parts, vm, (vmId) => vms.addDisk(vmId, request)),
    diskRemove: (options, { vm, disk = "" }) =>
      changed(parts, vm, (vmId) => vms.removeDisk(vmId, disk, options)),
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
