import { TidemarkError } from "../../model/errors.js";
import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockDevice } from "./block-graph.js";
import type { BlockMonitor } from "./block-monitor.js";
import { closeImage, isSamePath, otherDriversOver } from "./close-nodes.js";
import { isSameFilter } from "./filter-place.js";
import { requireAnswering } from "./require-answering.js";
import { requireSize } from "./require-size.js";
import { requireUnlocked } from "./require-unlocked.js";
import { settledDisk } from "./settled-disk.js";
import { vmDiskOf } from "./vm-disk-of.js";

/** How long QEMU waits for the service to come back before its guest meets an I/O error. */
const RECONNECT_DELAY_S = 120;

/** RunningVm.insertFilter(); one at a time for a disk. */
export async function insertFilter(
  monitor: BlockMonitor,
  diskName: string,
  filter: DiskFilter,
  signal: AbortSignal,
): Promise<void> {
  const { device, diskSwitch, names } = await settledDisk(monitor, diskName, signal);
  if (!isSameFilter(vmDiskOf(device).filter, filter)) {
    await requireInsertable(monitor, device, filter, signal);
    const move = {
      from: device.root.nodeName,
      to: names.filterNode,
      node: filterNode(names.filterNode, device, filter),
      check: (bounded: AbortSignal) =>
        requireSize(monitor, names.filterNode, device, "insert the filter into", bounded),
    };
    await diskSwitch.move(move, signal);
  }
  await closeImage(monitor, filter.imagePath, AbortSignal.timeout(10_000));
}

function filterNode(nodeName: string, { root }: BlockDevice, filter: DiskFilter): object {
  return {
    driver: "nbd",
    "node-name": nodeName,
    server: { type: "unix", path: filter.socketPath },
    export: filter.exportName,
    "reconnect-delay": RECONNECT_DELAY_S,
    discard: "unmap",
    "detect-zeroes": root.detectsZeroes,
    cache: { direct: root.isDirect, "no-flush": root.ignoresFlushes },
  };
}

async function requireInsertable(
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
