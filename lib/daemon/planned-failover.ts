import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";
import { requireShutDown } from "./require-shut-down.js";

/**
 * Hands the VM over to the replica of one of its relationships. What speaks against it is named
 * before anything is done: a guest that has its disks open (IN_USE, unless `force` cuts it off),
 * and what the engine asks for.
 */
export async function plannedFailover(
  parts: HostParts,
  definition: VmDefinition,
  relationshipId: string,
  force: boolean,
): Promise<void> {
  if (!force) await requireShutDown(parts, definition, "fail the VM over");
  await parts.engine.handOver(relationshipId);
}
