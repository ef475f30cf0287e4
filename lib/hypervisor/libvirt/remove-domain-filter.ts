import { stat } from "node:fs/promises";
import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockDevice } from "../qemu/block-graph.js";
import { closeFilter, isSamePath } from "../qemu/close-nodes.js";
import { requireRemovable } from "../qemu/require-removable.js";
import { switchNamesOf } from "../qemu/switch-names.js";
import { vmDiskOf } from "../qemu/vm-disk-of.js";
import type { DomainMonitor } from "./domain-monitor.js";
import { discardUnused, moveToNode } from "./node-switch.js";

/** RunningVm.removeFilter() of a domain. */
export async function removeDomainFilter(
  monitor: DomainMonitor,
  diskName: string,
  filter: DiskFilter,
  signal: AbortSignal,
): Promise<void> {
  const device = await monitor.device(diskName, signal);
  const { imagePath } = vmDiskOf(device);
  if (imagePath === null || !(await isSamePath(imagePath, filter.imagePath))) {
    requireRemovable(device, filter);
    const nodeName = await freeName(monitor, device, signal);
    const node = await imageNode(monitor, nodeName, device, filter.imagePath, signal);
    const purpose = "remove the filter from";
    await moveToNode(monitor, { device, nodeName, node, purpose }, signal);
  }
  await closeFilter(monitor, filter, AbortSignal.timeout(10_000));
}

/** libvirt's own name where it is free, so that it finds all as it left it. */
async function freeName(
  monitor: DomainMonitor,
  { name, root }: BlockDevice,
  signal: AbortSignal,
): Promise<string> {
  const own = root.nodeName.replace(/-format$/, "-storage");
  const { imageNode: other } = switchNamesOf(name);
  for (const nodeName of [own, other]) await discardUnused(monitor, nodeName);
  return (await monitor.node(own, signal)) === null ? own : other;
}

async function imageNode(
  { domain }: DomainMonitor,
  nodeName: string,
  { name, root }: BlockDevice,
  imagePath: string,
  signal: AbortSignal,
): Promise<object> {
  const facts = await stat(imagePath);
  const isNative = await domain.hasDisk(name, "driver/@io='native'", signal);
  return {
    driver: facts.isBlockDevice() ? "host_device" : "file",
    "node-name": nodeName,
    filename: imagePath,
    cache: { direct: root.isDirect, "no-flush": root.ignoresFlushes },
    "auto-read-only": true,
    discard: "unmap",
    ...(isNative ? { aio: "native" } : {}),
  };
}
