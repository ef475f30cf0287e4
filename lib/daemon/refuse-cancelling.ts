import { TidemarkError } from "../model/errors.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";
import type { VmDefinition } from "./open-vm-disks.js";

/** CONFLICT: what a VM wrote since it was failed over to this host is elsewhere too. */
export function refuseCancelling(
  engine: Pick<ReplicationEngine, "targetIdOf" | "targetsOf"> | null,
  definition: VmDefinition | null,
): void {
  if (engine === null || definition === null) return;
  const { vmId, name, targetId, wasReversed } = definition;
  if (engine.targetIdOf(vmId) === targetId) throw isReversed();
  if (wasReversed === true) throw hasBeenReversed(name);
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

/** Nobody would have the VM: the host that had it keeps a replica, or may do so by now. */
function hasBeenReversed(name: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot cancel the failover: because ${name} was replicated from here to the host that had it, which may have given its disks up for that.`,
    {
      hint: "To go back, replicate it there again (tidemark vm reverse) and fail it over (tidemark vm planned-failover).",
    },
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
