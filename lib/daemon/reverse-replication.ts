import type { ReverseRequest } from "../management/schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import { requireScripts } from "./require-scripts.js";
import type { VmDefinition } from "./open-vm-disks.js";

/** Replicates a VM that was failed over to this host to the one that had it before. */
export async function reverseReplication(
  { engine, failovers, maintenance }: HostParts,
  { vmId, name, targetId, lineage, formerHeadId }: VmDefinition,
  request: ReverseRequest,
): Promise<void> {
  maintenance.refuseEnabling();
  const presentTargetId = engine.targetIdOf(vmId);
  if (presentTargetId !== null && presentTargetId !== targetId) throw isExtended(name);
  await requireScripts(request);
  const of = lineage ?? (await failovers.lineageOf(vmId));
  if (of === null) {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot reverse the replication of ${name}: because the VM was not failed over to this host.`,
      { hint: "Fail it over first; on its present primary there is nothing to reverse." },
    );
  }
  await engine.reverse({ vmId, targetId, ...request }, of, formerHeadId);
}

function isExtended(name: string): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot reverse the replication of ${name}: because it goes on to the extended replica, and a VM is replicated to one host.`,
    { hint: `End that first: tidemark vm remove ${name}.` },
  );
}
