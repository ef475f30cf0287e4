import type { ReverseRequest } from "../management/schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import { requireScripts } from "./require-scripts.js";
import type { VmDefinition } from "./open-vm-disks.js";

/** Replicates a VM that was failed over to this host to the one that had it before. */
export async function reverseReplication(
  { engine, failovers, maintenance }: HostParts,
  { vmId, name, targetId, lineage }: VmDefinition,
  request: ReverseRequest,
): Promise<void> {
  maintenance.refuseEnabling();
  await requireScripts(request);
  const of = lineage ?? (await failovers.lineageOf(vmId));
  if (of === null) {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot reverse the replication of ${name}: because the VM was not failed over to this host.`,
      { hint: "Fail it over first; on its present primary there is nothing to reverse." },
    );
  }
  await engine.reverse({ vmId, targetId, ...request }, of);
}
