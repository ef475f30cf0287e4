import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";

/** IN_USE while a guest has a disk of the VM open; `what` completes "Cannot ...". */
export async function requireShutDown(
  { vms }: Pick<HostParts, "vms">,
  { vmId, name, disks }: VmDefinition,
  what: string,
): Promise<void> {
  const { server } = await vms.served(vmId);
  const open = disks.filter((disk) => server.clientCount(disk.name) > 0);
  if (open.length === 0) return;
  throw new TidemarkError(
    "IN_USE",
    `Cannot ${what}: because ${name} has ${open.map((disk) => disk.name).join(", ")} open.`,
    { hint: "Shut the VM down first, so that nothing of it is lost; --force cuts it off." },
  );
}
