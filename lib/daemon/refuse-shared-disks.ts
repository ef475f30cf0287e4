import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { TidemarkError } from "../model/errors.js";
import { isNbdUri } from "../tracking/disk-backing.js";
import { type FileIdentity, fileOfLoop } from "./file-of-loop.js";
import type { VmDefinition } from "./open-vm-disks.js";

/**
 * A disk has one filter, or writes past it would go unnoticed: what another VM of this
 * host has already, by whatever name, is refused with that VM's name.
 */
export async function refuseSharedDisks(
  vmName: string,
  paths: readonly string[],
  others: readonly VmDefinition[],
): Promise<void> {
  const taken = await placesOf(others);
  for (const path of paths) {
    for (const place of await namesOfPlace(path)) {
      const owner = taken.get(place);
      if (owner !== undefined) throw shared(vmName, path, owner);
      taken.set(place, { vmName, diskName: "", path });
    }
  }
}

interface Owner {
  readonly vmName: string;
  readonly diskName: string;
  readonly path: string;
}

async function placesOf(vms: readonly VmDefinition[]): Promise<Map<string, Owner>> {
  const taken = new Map<string, Owner>();
  for (const vm of vms) {
    for (const { name, path } of vm.disks) {
      const owner = { vmName: vm.name, diskName: name, path };
      for (const place of await namesOfPlace(path)) taken.set(place, owner);
    }
  }
  return taken;
}

/** The same disk has one in common, over links, bind mounts, device nodes and loop devices. */
async function namesOfPlace(path: string): Promise<string[]> {
  if (isNbdUri(path)) return [new URL(path).href];
  const found = await stat(path).catch(() => null);
  const names = [resolve(path)];
  if (found?.isBlockDevice() !== true) {
    return found === null ? names : [...names, fileName(found)];
  }
  const file = await fileOfLoop(found.rdev);
  return [...names, `device ${found.rdev}`, ...(file === null ? [] : [fileName(file)])];
}

function fileName({ dev, ino }: FileIdentity): string {
  return `file ${dev} ${ino}`;
}

function shared(vmName: string, path: string, owner: Owner): TidemarkError {
  if (owner.diskName === "") {
    return new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot enable ${vmName}: because ${path} and ${owner.path} are one disk.`,
      { hint: "Name each disk once." },
    );
  }
  const as = owner.path === path ? "" : `, there as ${owner.path}`;
  return new TidemarkError(
    "CONFLICT",
    `Cannot enable ${vmName}: because its disk ${path} is disk ${owner.diskName} of VM ${owner.vmName}${as}.`,
    { hint: `Leave it out, or remove the replication of ${owner.vmName} first.` },
  );
}
