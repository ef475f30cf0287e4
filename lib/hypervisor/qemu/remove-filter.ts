import { stat } from "node:fs/promises";
import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockDevice } from "./block-graph.js";
import type { BlockMonitor } from "./block-monitor.js";
import { closeFilter, isSamePath } from "./close-nodes.js";
import { requireRemovable } from "./require-removable.js";
import { requireSize } from "./require-size.js";
import { settledDisk } from "./settled-disk.js";
import { vmDiskOf } from "./vm-disk-of.js";

/** RunningVm.removeFilter(); one at a time for a disk. */
export async function removeFilter(
  monitor: BlockMonitor,
  diskName: string,
  filter: DiskFilter,
  signal: AbortSignal,
): Promise<void> {
  const { device, diskSwitch, names } = await settledDisk(monitor, diskName, signal);
  const { imagePath } = vmDiskOf(device);
  if (imagePath === null || !(await isSamePath(imagePath, filter.imagePath))) {
    requireRemovable(device, filter);
    const move = {
      from: device.root.nodeName,
      to: names.imageNode,
      node: await imageNode(names.imageNode, device, filter.imagePath),
      check: (bounded: AbortSignal) =>
        requireSize(monitor, names.imageNode, device, "remove the filter from", bounded),
    };
    await diskSwitch.move(move, signal);
  }
  await closeFilter(monitor, filter, AbortSignal.timeout(10_000));
}

async function imageNode(
  nodeName: string,
  { root }: BlockDevice,
  imagePath: string,
): Promise<object> {
  const facts = await stat(imagePath);
  const cache = { direct: root.isDirect, "no-flush": root.ignoresFlushes };
  const driver = facts.isBlockDevice() ? "host_device" : "file";
  return {
    driver: "raw",
    "node-name": nodeName,
    discard: "unmap",
    "detect-zeroes": root.detectsZeroes,
    cache,
    file: { driver, filename: imagePath, discard: "unmap", cache },
  };
}
