import { realpath } from "node:fs/promises";
import { basename } from "node:path";
import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import type { HypervisorPlace, VmDisk } from "../../model/hypervisor.js";
import { TrackedDisk } from "../../tracking/tracked-disk.js";
import type { TrackedDiskOptions } from "../../tracking/tracked-disk-options.js";
import { connectVm } from "./connect-vm.js";

const ASK_LIMIT_MS = 5000;

interface AskedVm {
  readonly name: string;
  /** Absent: nobody can be asked. */
  readonly hypervisor?: HypervisorPlace | undefined;
}

type Beside = TrackedDiskOptions & { readonly path: string; readonly name?: string };

/**
 * Opens a disk of a VM that may run. By the page cache or past it as the VM has it, for both
 * write to the image while the filter comes and goes; and without a lock where the VM has the
 * image itself open. What is opened so is not tracked before the VM goes by its filter.
 */
export async function openBeside(options: Beside, vm: AskedVm): Promise<TrackedDisk> {
  const { name: diskName, ...rest } = options;
  if (vm.hypervisor === undefined) return TrackedDisk.open(rest);
  const { disks, failure } = await disksOf(vm.hypervisor, vm.name);
  const image = await findImage(disks, options.path);
  const direct = (image ?? findExport(disks, vm.name, diskName))?.isDirect ?? false;
  try {
    return await TrackedDisk.open({ ...rest, direct });
  } catch (thrown) {
    if (toTidemarkError(thrown).code !== "IN_USE") throw thrown;
    if (failure !== null) throw heldByUnknown(options.path, failure);
    if (image === null) throw thrown;
    return TrackedDisk.open({ ...rest, direct, lock: "none" });
  }
}

/** The disk of the VM that is the image at the path. */
export async function findImage(disks: readonly VmDisk[], path: string): Promise<VmDisk | null> {
  const real = await realpath(path).catch(() => null);
  for (const disk of disks) {
    if (disk.imagePath === null || real === null) continue;
    const other = await realpath(disk.imagePath).catch(() => null);
    if (other === real) return disk;
  }
  return null;
}

function findExport(disks: readonly VmDisk[], vmName: string, diskName = ""): VmDisk | undefined {
  return disks.find(
    ({ filter }) =>
      filter?.exportName === diskName && basename(filter.socketPath) === `${vmName}.sock`,
  );
}

interface Found {
  readonly disks: readonly VmDisk[];
  /** Why the VM, which may run, could not be asked. */
  readonly failure: TidemarkError | null;
}

async function disksOf(place: HypervisorPlace, vmName: string): Promise<Found> {
  const signal = AbortSignal.timeout(ASK_LIMIT_MS);
  try {
    await using vm = await connectVm(place, vmName, signal);
    return { disks: await vm.disks(signal), failure: null };
  } catch (thrown) {
    return { disks: [], failure: toTidemarkError(thrown) };
  }
}

function heldByUnknown(path: string, cause: TidemarkError): TidemarkError {
  return new TidemarkError(
    "IN_USE",
    `Cannot open disk ${path}: because another process has it open, and the VM cannot be asked: ${cause.message}`,
    { hint: "Check the path of the VM's monitor, and that no other program uses it.", cause },
  );
}
