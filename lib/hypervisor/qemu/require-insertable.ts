import { TidemarkError } from "../../model/errors.js";
import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockDevice } from "./block-graph.js";
import type { BlockMonitor } from "./block-monitor.js";
import { isSamePath, otherDriversOver } from "./close-nodes.js";
import { requireAnswering } from "./require-answering.js";
import { requireUnlocked } from "./require-unlocked.js";
import { vmDiskOf } from "./vm-disk-of.js";

/** Throws unless that filter may come before the disk's image. */
export async function requireInsertable(
  monitor: BlockMonitor,
  device: BlockDevice,
  filter: DiskFilter,
  signal: AbortSignal,
): Promise<void> {
  const { name, format, imagePath, isReadOnly, filter: other } = vmDiskOf(device);
  if (other !== null) {
    throw refused(name, `it goes by ${other.socketPath} already`, "Remove that filter first.");
  }
  if (isReadOnly) {
    throw refused(name, "it is read-only", "Leave it out: nothing changes it.");
  }
  if (format !== "raw") {
    throw unsupported(name, `it is ${format}, and two writers would destroy it`);
  }
  if (imagePath === null) throw unsupported(name, "its image is not named by an absolute path");
  if (!(await isSamePath(imagePath, filter.imagePath))) {
    const why = `the filter writes to ${filter.imagePath}, and the disk is ${imagePath}`;
    throw refused(name, why, "Open the tracked disk over the image that the VM has.");
  }
  const [driver] = await otherDriversOver(monitor, imagePath, signal);
  if (driver !== undefined) throw unsupported(name, `it goes by a "${driver}" node of QEMU`);
  await requireAnswering(filter, signal);
  await requireUnlocked(imagePath);
}

function refused(name: string, why: string, hint: string): TidemarkError {
  const message = `Cannot insert the filter into disk ${name}: because ${why}.`;
  return new TidemarkError("CONFLICT", message, { hint });
}

function unsupported(name: string, why: string): TidemarkError {
  const message = `Cannot insert the filter into disk ${name} while its VM runs: because ${why}.`;
  const hint = "Give the VM the filter's NBD export in place of the image at its next start.";
  return new TidemarkError("UNSUPPORTED", message, { hint });
}
