import { isSameFilter } from "../../hypervisor/qemu/filter-place.js";
import { TidemarkError } from "../../model/errors.js";
import type { DiskFilter, RunningVm, VmDisk } from "../../model/hypervisor.js";
import type { TrackedDisk } from "../../tracking/tracked-disk.js";
import type { VmDiskDefinition } from "../open-vm-disks.js";
import type { ServedVm } from "../served-vm.js";
import { findImage } from "./open-beside.js";

interface LiveDisk {
  readonly name: string;
  readonly disk: TrackedDisk;
  readonly filter: DiskFilter;
  /** As the VM has it. */
  readonly found: VmDisk;
}

/**
 * Moves to its filter what of the VM goes past it, and locks the images. When it resolves,
 * every write of the guest is marked, and what it wrote past the filter is suspect.
 */
export async function settleDisks(
  vm: RunningVm,
  served: ServedVm,
  signal: AbortSignal,
): Promise<void> {
  for (const { disk, filter, found } of await liveDisks(vm, served, signal)) {
    if (found.filter === null) {
      // Before it goes by the filter: a crash in between must not leave it unsuspected.
      await disk.suspectAll("written past the filter");
      await disk.lockImage("none");
      await vm.insertFilter(found.name, filter, signal);
    }
    await lockDisk(disk);
  }
}

/** Those of a VM that does not run. IN_USE: somebody has an image open nevertheless. */
export async function lockDisks({ disks }: ServedVm): Promise<void> {
  for (const disk of disks) await lockDisk(disk);
}

/** Throws unless the VM writes to all of its disks by their filters. */
export async function requireFiltered(
  vm: RunningVm,
  served: ServedVm,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, disk, found } of await liveDisks(vm, served, signal)) {
    if (found.filter !== null && disk.image.lock === "exclusive") continue;
    throw bypassed(served, name, `it writes to ${found.imagePath ?? "it"} itself`);
  }
}

/** The VM writes to its images itself when it resolves, or to the one of that name. Idempotent. */
export async function freeDisks(
  vm: RunningVm,
  served: ServedVm,
  signal: AbortSignal,
  diskName?: string,
): Promise<void> {
  const present = await vm.disks(signal);
  for (const [index, definition] of served.definition.disks.entries()) {
    const [disk, filter] = [served.disks[index], filterOf(served, definition)];
    const found = present.find((one) => isSameFilter(one.filter, filter));
    if (disk === undefined || found === undefined) continue;
    if (diskName !== undefined && definition.name !== diskName) continue;
    requireSameCache(served, disk, found);
    await disk.lockImage("none");
    await vm.removeFilter(found.name, filter, signal);
  }
}

async function liveDisks(
  vm: RunningVm,
  served: ServedVm,
  signal: AbortSignal,
): Promise<readonly LiveDisk[]> {
  const present = await vm.disks(signal);
  const live: LiveDisk[] = [];
  for (const [index, definition] of served.definition.disks.entries()) {
    const [disk, filter] = [served.disks[index], filterOf(served, definition)];
    const found =
      present.find((one) => isSameFilter(one.filter, filter)) ??
      (await findImage(present, definition.path));
    const { name } = definition;
    if (disk !== undefined && found !== null) live.push({ name, disk, filter, found });
    else if (definition.isExcluded !== true) {
      throw bypassed(served, name, `none of the running VM's disks is ${definition.path}`);
    }
  }
  return live;
}

/** What the image went through without a lock, nobody knows. */
async function lockDisk(disk: TrackedDisk): Promise<void> {
  if (disk.image.lock === "exclusive") return;
  await disk.suspectAll("written past the filter");
  await disk.lockImage("exclusive");
}

function filterOf({ server }: ServedVm, { name, path }: VmDiskDefinition): DiskFilter {
  return { socketPath: server.address.slice("unix:".length), exportName: name, imagePath: path };
}

function bypassed({ definition }: ServedVm, diskName: string, why: string): TidemarkError {
  return new TidemarkError(
    "BYPASSED",
    `Cannot track disk ${diskName} of ${definition.name}: because ${why}.`,
    {
      hint: "Merge the VM's snapshots, or end what moved the disk; or remove it from replication.",
    },
  );
}

/** Mixed writes to the image can make a guest's flush fail (docs/hypervisors.md). */
function requireSameCache({ definition }: ServedVm, disk: TrackedDisk, found: VmDisk): void {
  if (disk.image.isDirect === found.isDirect) return;
  const way = (isDirect: boolean) => (isDirect ? "past the page cache" : "by the page cache");
  throw new TidemarkError(
    "CONFLICT",
    `Cannot take the filter out of disk ${found.name} of ${definition.name}: because its VM has it ${way(found.isDirect)}, and it is open here ${way(disk.image.isDirect)}.`,
    { hint: "Restart the service, which opens it as its VM does, and repeat." },
  );
}
