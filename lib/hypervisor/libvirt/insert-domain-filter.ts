import type { DiskFilter } from "../../model/hypervisor.js";
import { closeImage } from "../qemu/close-nodes.js";
import { filterNode } from "../qemu/filter-node.js";
import { isSameFilter } from "../qemu/filter-place.js";
import { requireInsertable } from "../qemu/require-insertable.js";
import { switchNamesOf } from "../qemu/switch-names.js";
import { vmDiskOf } from "../qemu/vm-disk-of.js";
import type { DomainMonitor } from "./domain-monitor.js";
import { discardUnused, moveToNode } from "./node-switch.js";

/** RunningVm.insertFilter() of a domain. */
export async function insertDomainFilter(
  monitor: DomainMonitor,
  diskName: string,
  filter: DiskFilter,
  signal: AbortSignal,
): Promise<void> {
  const device = await monitor.device(diskName, signal);
  const { filterNode: nodeName, imageNode } = switchNamesOf(diskName);
  if (!isSameFilter(vmDiskOf(device).filter, filter)) {
    for (const left of [nodeName, imageNode]) await discardUnused(monitor, left);
    await requireInsertable(monitor, device, filter, signal);
    const node = filterNode(nodeName, device, filter);
    const purpose = "insert the filter into";
    await moveToNode(monitor, { device, nodeName, node, purpose }, signal);
  }
  await closeImage(monitor, filter.imagePath, AbortSignal.timeout(10_000));
}
