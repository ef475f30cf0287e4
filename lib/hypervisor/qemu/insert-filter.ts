import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockMonitor } from "./block-monitor.js";
import { closeImage } from "./close-nodes.js";
import { filterNode } from "./filter-node.js";
import { isSameFilter } from "./filter-place.js";
import { requireInsertable } from "./require-insertable.js";
import { requireSize } from "./require-size.js";
import { settledDisk } from "./settled-disk.js";
import { vmDiskOf } from "./vm-disk-of.js";

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
