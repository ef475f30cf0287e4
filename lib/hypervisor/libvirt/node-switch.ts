import { TidemarkError } from "../../model/errors.js";
import { failpoint } from "../../model/failpoint.js";
import type { BlockDevice } from "../qemu/block-graph.js";
import { isAnswering } from "../qemu/is-answering.js";
import { requireSize } from "../qemu/require-size.js";
import type { DomainMonitor } from "./domain-monitor.js";

const LIMIT_MS = 10_000;

export interface NodeMove {
  readonly device: BlockDevice;
  readonly nodeName: string;
  /** For blockdev-add. */
  readonly node: object;
  /** Completes "Cannot ... disk vda". */
  readonly purpose: string;
}

/**
 * Puts a new node below libvirt's raw node of the disk (blockdev-reopen): QEMU waits for what is
 * under way, flushes it, and goes on by the new one. Nothing is copied, and libvirt's own node
 * stays where it was.
 */
export async function moveToNode(
  monitor: DomainMonitor,
  move: NodeMove,
  signal: AbortSignal,
): Promise<void> {
  const { device, nodeName, node, purpose } = move;
  const options = await formatOptions(monitor, device, nodeName, signal);
  const limit = AbortSignal.timeout(LIMIT_MS);
  try {
    await monitor.qmp.execute("blockdev-add", node, limit);
    failpoint("filter.added");
    await requireSize(monitor, nodeName, device, purpose, limit);
    signal.throwIfAborted();
    await monitor.qmp.execute("blockdev-reopen", { options: [options] }, limit);
    failpoint("filter.switched");
  } catch (thrown) {
    await discardUnused(monitor, nodeName);
    throw thrown;
  }
}

/** QEMU refuses to delete what is in use. */
export async function discardUnused(monitor: DomainMonitor, nodeName: string): Promise<void> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const node = await monitor.node(nodeName, signal);
  if (node === null || !(await isAnswering(node, signal))) return;
  await monitor.qmp
    .execute("blockdev-del", { "node-name": nodeName }, signal)
    .catch(() => signal.throwIfAborted());
}

/** Of libvirt's node as it is, but for its child: what is not named would become QEMU's default. */
async function formatOptions(
  monitor: DomainMonitor,
  { name, root }: BlockDevice,
  file: string,
  signal: AbortSignal,
): Promise<object> {
  if (root.driver !== "raw" || !root.nodeName.startsWith("libvirt-")) throw noRawNode(name);
  const isPlain = await monitor.domain.hasDisk(name, "not(source/*[not(self::host)])", signal);
  if (!isPlain) throw notPlain(name);
  const unmaps = await monitor.domain.hasDisk(name, "driver/@discard='unmap'", signal);
  return {
    driver: "raw",
    "node-name": root.nodeName,
    "read-only": root.isReadOnly,
    discard: unmaps ? "unmap" : "ignore",
    "detect-zeroes": root.detectsZeroes,
    cache: { direct: root.isDirect, "no-flush": root.ignoresFlushes },
    file,
  };
}

function noRawNode(name: string): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    `Cannot change the way of disk ${name}: because this libvirt has no raw node of its own over the image.`,
    { hint: "Give the domain the filter's NBD export in place of the image at its next start." },
  );
}

function notPlain(name: string): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    `Cannot change the way of disk ${name}: because its source has settings of its own (slices, reservations, encryption, labels).`,
    { hint: "Give the domain the filter's NBD export in place of the image at its next start." },
  );
}
