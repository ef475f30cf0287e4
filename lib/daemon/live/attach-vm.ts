import { TidemarkError } from "../../model/errors.js";
import type { HypervisorPlace } from "../../model/hypervisor.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import { requireServed } from "../vm-disk-rules.js";

/** What the VM writes while it runs is tracked from now on; what it wrote before is compared. */
export async function attachVm(
  { vms, live, engine }: HostParts,
  definition: VmDefinition,
  place: HypervisorPlace | undefined,
): Promise<void> {
  const { vmId, name, hypervisor: before, isPromoted } = definition;
  requireServed(definition);
  if (isPromoted === true) throw unsupported(name);
  const wanted = place ?? before;
  if (wanted === undefined) throw unknownPlace(name);
  const { kind, monitorPath } = wanted;
  await engine.changeDisks(vmId, async () => {
    await vms.setHypervisor(vmId, { kind, monitorPath });
    try {
      await vms.served(vmId);
      await live.attend(vmId);
    } catch (thrown) {
      await vms.setHypervisor(vmId, before);
      await restore(vms, live, vmId, before);
      throw thrown;
    }
  });
}

/** The VM runs, or may be started, past Tidemark. Its disks are not open here any more. */
export async function detachVm(
  { vms, live, engine }: HostParts,
  definition: VmDefinition,
): Promise<void> {
  const { vmId, name, hypervisor } = definition;
  requireServed(definition);
  if (hypervisor === undefined) throw unknownPlace(name);
  await engine.changeDisks(vmId, async () => {
    // The other order would leave a guest without its disks if it ended in between.
    await live.leave(vmId);
    await vms.setHypervisor(vmId, { ...hypervisor, isDetached: true });
    await vms.letGo(vmId);
  });
}

async function restore(
  vms: HostParts["vms"],
  live: HostParts["live"],
  vmId: string,
  before: VmDefinition["hypervisor"],
): Promise<void> {
  if (before?.isDetached === true) await vms.letGo(vmId);
  else if (before !== undefined) await live.attend(vmId).catch(() => undefined);
}

function unknownPlace(name: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot reach the hypervisor of ${name}: because its monitor was never named.`,
    { hint: "Name it: `tidemark vm attach VM --qemu-monitor SOCKET`." },
  );
}

function unsupported(name: string): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    `Cannot attach ${name}: because it was failed over to this host, and runs by Tidemark alone.`,
    { hint: "Give the VM the exports that `tidemark vm status` shows." },
  );
}
