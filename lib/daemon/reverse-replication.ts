import type { ReverseRequest } from "../management/schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import { requireScripts } from "./require-scripts.js";
import type { VmDefinition } from "./open-vm-disks.js";
import { targetNameOf } from "./target-name.js";

/** Replicates a VM that was failed over to this host to the one that had it before. */
export async function reverseReplication(
  parts: HostParts,
  definition: VmDefinition,
  request: ReverseRequest,
): Promise<void> {
  const { engine, failovers, maintenance, vms } = parts;
  const { vmId, targetId, lineage, formerHeadId } = definition;
  maintenance.refuseEnabling();
  await requireScripts(request);
  const of = lineage ?? (await failovers.lineageOf(vmId));
  if (of === null) throw notFailedOver(definition);
  await leaveFirstPlace(parts, definition);
  const settings = { vmId, targetId, ...request };
  engine.requireEnableable(settings);
  await vms.noteReversed(vmId);
  await engine.reverse(settings, of, formerHeadId);
}

/** What was the extended replica goes on as one target of several. */
async function leaveFirstPlace(
  { engine, statistics }: HostParts,
  { vmId, targetId }: VmDefinition,
): Promise<void> {
  const presentTargetId = engine.targetIdOf(vmId);
  if (presentTargetId === null || presentTargetId === targetId) return;
  const { settings } = await engine.status(vmId);
  await engine.makeFurther(vmId, targetNameOf(settings.replicaUrl));
  await statistics.forget(vmId);
}

function notFailedOver({ name }: VmDefinition): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot reverse the replication of ${name}: because the VM was not failed over to this host.`,
    { hint: "Fail it over first; on its present primary there is nothing to reverse." },
  );
}
