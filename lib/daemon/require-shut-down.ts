import { TidemarkError } from "../model/errors.js";
import type { VmDefinition } from "./open-vm-disks.js";
import type { PrimaryVms } from "./primary-vms.js";

/** IN_USE while a guest has a disk of the VM open; `what` completes "Cannot ...". */
export async function requireShutDown(
  { vms }: { readonly vms: PrimaryVms },
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
