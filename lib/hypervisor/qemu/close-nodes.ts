import { realpath } from "node:fs/promises";
import { TidemarkError } from "../../model/errors.js";
import type { FilterExport } from "../../model/hypervisor.js";
import type { BlockNode } from "./block-graph.js";
import type { BlockMonitor } from "./block-monitor.js";
import { filterOfPlace, isSameFilter } from "./filter-place.js";

/** From the guest's side down: a node cannot go before what is above it. */
const LAYERS = ["raw", "file", "host_device", "nbd"];

/**
 * Has QEMU close the image, of which its guest has no more use. Nodes that a user named
 * (-blockdev) stay otherwise; the others went by themselves.
 */
export async function closeImage(
  monitor: BlockMonitor,
  imagePath: string,
  signal: AbortSignal,
): Promise<void> {
  await closeNodes(monitor, () => nodesOver(monitor, imagePath, signal), imagePath, signal);
}

/** The same of the way by a filter. */
export async function closeFilter(
  monitor: BlockMonitor,
  filter: FilterExport,
  signal: AbortSignal,
): Promise<void> {
  const find = async () => {
    const nodes = await monitor.nodes(signal);
    return nodes.filter(({ place }) => isSameFilter(filterOfPlace(place), filter));
  };
  await closeNodes(monitor, find, filter.socketPath, signal);
}

/** Drivers between the guest and its image that do more than reach it, and would be lost. */
export async function otherDriversOver(
  monitor: BlockMonitor,
  imagePath: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const nodes = await nodesOver(monitor, imagePath, signal);
  return nodes.map(({ driver }) => driver).filter((driver) => !LAYERS.includes(driver));
}

export async function isSamePath(a: string, b: string): Promise<boolean> {
  return a === b || (await real(a)) === (await real(b));
}

/** A path that is not there is itself. */
async function real(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

async function nodesOver(
  monitor: BlockMonitor,
  imagePath: string,
  signal: AbortSignal,
): Promise<readonly BlockNode[]> {
  const found: BlockNode[] = [];
  for (const node of await monitor.nodes(signal)) {
    if (await isSamePath(node.place, imagePath)) found.push(node);
  }
  return found;
}

async function closeNodes(
  monitor: BlockMonitor,
  find: () => Promise<readonly BlockNode[]>,
  place: string,
  signal: AbortSignal,
): Promise<void> {
  for (const layer of LAYERS) {
    for (const { nodeName, driver } of await find()) {
      if (driver === layer) await deleteUnlessInUse(monitor, nodeName, signal);
    }
  }
  const [left] = await find();
  if (left === undefined) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot have QEMU close ${place}: because its node ${left.nodeName} is used by something else.`,
    { hint: "End what else uses it (an export, a job, another device), and repeat this." },
  );
}

async function deleteUnlessInUse(
  monitor: BlockMonitor,
  nodeName: string,
  signal: AbortSignal,
): Promise<void> {
  await monitor.qmp
    .execute("blockdev-del", { "node-name": nodeName }, signal)
    .catch(() => signal.throwIfAborted());
}
