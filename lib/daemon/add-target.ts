import { randomUUID } from "node:crypto";
import type { TargetRequest } from "../management/target-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";
import { replicateOnward } from "./replicate-onward.js";
import { targetNameOf } from "./target-name.js";

/** Replicates a VM that this host is the primary of to one more host. */
export async function addTarget(
  parts: HostParts,
  definition: VmDefinition,
  { targetName, takesOver, initialStartAtMs, ...rest }: TargetRequest,
): Promise<void> {
  const { vmId, name } = definition;
  parts.maintenance.refuseEnabling();
  requireHere(parts, definition);
  const settings = {
    vmId,
    targetId: randomUUID(),
    targetName: targetName ?? targetNameOf(rest.replicaUrl),
    ...rest,
  };
  return replicateOnward(parts, name, settings, { takesOver, initialStartAtMs });
}

/** CONFLICT while the VM is another host's, or almost. */
function requireHere({ engine }: HostParts, { vmId, name, isWithheld }: VmDefinition): void {
  if (engine.givenAwayTo(vmId) === null && isWithheld !== true) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot add a target to ${name}: because the VM was failed over, or is about to be.`,
    { hint: "Add it on the host that runs the VM; `tidemark vm status` shows the state." },
  );
}
