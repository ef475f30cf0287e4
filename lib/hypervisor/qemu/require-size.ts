import { TidemarkError } from "../../model/errors.js";
import type { BlockDevice } from "./block-graph.js";
import type { BlockMonitor } from "./block-monitor.js";

/** Throws unless the new node is as large as the guest's disk; `purpose` completes "Cannot ... disk vda". */
export async function requireSize(
  monitor: BlockMonitor,
  nodeName: string,
  { name, root }: BlockDevice,
  purpose: string,
  signal: AbortSignal,
): Promise<void> {
  const node = await monitor.node(nodeName, signal);
  if (node?.sizeBytes === root.sizeBytes) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot ${purpose} disk ${name}: because the guest has ${root.sizeBytes} bytes, and there are ${node?.sizeBytes ?? 0}.`,
    { hint: "Check that both are the same storage, and finish a resize (docs/resize.md)." },
  );
}
