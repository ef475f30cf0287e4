import { TidemarkError } from "../model/errors.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";
import type { VmDefinition } from "./open-vm-disks.js";

/** CONFLICT: what a VM wrote since it was failed over to this host is elsewhere too. */
export function refuseCancelling(
  engine: Pick<ReplicationEngine, "targetIdOf" | "targetsOf"> | null,
  definition: VmDefinition | null,
): void {
  if (engine === null || definition === null) return;
  const { vmId, name, targetId } = definition;
  if (engine.targetIdOf(vmId) === targetId) throw isReversed();
  const [target] = engine.targetsOf(vmId);
  if (target !== undefined) throw hasTarget(name, target.name);
}

function isReversed(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot cancel the failover: because the VM is replicated from here by now.",
    { hint: "To go back, fail it over to its replica: tidemark vm planned-failover." },
  );
}

/** Its replica would go on from what the VM wrote here, with nobody to bring it the rest. */
function hasTarget(name: string, targetName: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot cancel the failover: because the VM is replicated from here to ${targetName}.`,
    { hint: `End that first: tidemark vm remove ${name}@${targetName}.` },
  );
}
