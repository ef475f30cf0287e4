/** What a VM's list of disks may be, and what of them may go. */
import { randomUUID } from "node:crypto";
import type { DiskSpecification, VmEnableRequest } from "../management/schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";
import type { VmDefinition, VmDiskDefinition } from "./open-vm-disks.js";
import type { ServedVm } from "./served-vm.js";

/** What a VM is enabled by. */
export type NewVm = Pick<VmEnableRequest, "name" | "disks" | "hypervisor">;

/** Of opened disks, in the order of the request. */
export function newDefinition(
  { name, disks: wanted, hypervisor }: NewVm,
  disks: readonly TrackedDisk[],
): VmDefinition {
  return {
    vmId: randomUUID(),
    targetId: randomUUID(),
    name,
    disks: disks.map((disk, index) =>
      definitionOf(disk, wanted[index]?.name ?? diskName(index), wanted[index] ?? {}),
    ),
    ...(hypervisor === undefined ? {} : { hypervisor }),
  };
}

export function definitionOf(
  { diskId, path, bitmapPath }: TrackedDisk,
  name: string,
  { isExcluded = false }: Partial<DiskSpecification>,
): VmDiskDefinition {
  return { diskId, name, path, bitmapPath, ...(isExcluded ? { isExcluded } : {}) };
}

/** What an earlier time in the VM has left on a disk that its replica does not count on any more. */
export async function dropTarget(disk: TrackedDisk, targetId: string): Promise<void> {
  const has = disk.targets().some((target) => target.targetId === targetId);
  if (has) await disk.removeTarget(targetId);
}

export function findDisk({ name, disks }: VmDefinition, nameOrId: string): VmDiskDefinition {
  const found = disks.find((disk) => disk.name === nameOrId || disk.diskId === nameOrId);
  if (found !== undefined) return found;
  throw new TidemarkError("NOT_FOUND", `Cannot find disk ${nameOrId} of VM ${name}.`, {
    hint: `Its disks are ${disks.map((each) => each.name).join(", ")}.`,
  });
}

/** CONFLICT while the VM is another host's, or is to be. */
export function requireServed({ name, isWithheld }: VmDefinition): void {
  if (isWithheld !== true) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot change the disks of ${name}: because it was failed over, or is about to be.`,
    { hint: "Change them on the host that runs the VM; `tidemark vm status` shows the state." },
  );
}

/** BYPASSED while it runs past Tidemark by order. */
export function requireAttached({ name, hypervisor }: VmDefinition): void {
  if (hypervisor?.isDetached !== true) return;
  throw new TidemarkError(
    "BYPASSED",
    `Cannot use the disks of ${name}: because it was detached, and may run without Tidemark.`,
    { hint: `Bring it back: \`tidemark vm attach ${name}\`.` },
  );
}

export function requireReplicated({ name, disks }: VmDefinition, diskName: string): void {
  if (disks.some(({ isExcluded }) => isExcluded !== true)) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot do without disk ${diskName} of ${name}: because no other disk of it is replicated.`,
    { hint: "To end replication, remove the VM's: `tidemark vm remove VM`." },
  );
}

export function refuseRemoval(
  { server, bitmaps, definition }: ServedVm,
  name: string,
  force: boolean,
) {
  if (bitmaps.hasOpenBackup) {
    throw new TidemarkError(
      "IN_USE",
      `Cannot remove disk ${name} of ${definition.name}: because a backup of the VM is open.`,
      { hint: "Commit or abandon the backup first." },
    );
  }
  const clientCount = server.clientCount(name);
  if (force || clientCount === 0) return;
  throw new TidemarkError(
    "IN_USE",
    `Cannot remove disk ${name} of ${definition.name}: because ${clientCount} NBD connections to it are open.`,
    { hint: "Detach it from the guest first, or cut it off with --force." },
  );
}

/** The first that is not taken. */
export function freeDiskName({ disks }: VmDefinition): string {
  const taken = new Set(disks.map(({ name }) => name));
  for (let index = 0; ; index += 1) if (!taken.has(diskName(index))) return diskName(index);
}

/** vda to vdz, then vd26 and on. */
function diskName(index: number): string {
  return index < 26 ? `vd${String.fromCharCode(97 + index)}` : `vd${index}`;
}

export function requireDistinct(definition: VmDefinition): void {
  const names = new Set(definition.disks.map((disk) => disk.name));
  const ids = new Set(definition.disks.map((disk) => disk.diskId));
  if (names.size === definition.disks.length && ids.size === definition.disks.length) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot enable ${definition.name}: because two of its disks are the same or have one name.`,
  );
}
