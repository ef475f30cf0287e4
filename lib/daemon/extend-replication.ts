import { randomUUID } from "node:crypto";
import type { ExtendRequest } from "../management/extended-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { ReplicaVmSummary } from "../replica/vm-summary.js";
import type { HostParts } from "./host-parts.js";
import { replicateOnward } from "./replicate-onward.js";

/** Replicates a VM that this host keeps a replica of on to a third one. */
export async function extendReplication(
  parts: HostParts,
  { vmId, vm, promotion }: ReplicaVmSummary,
  { takesOver, initialStartAtMs, ...rest }: ExtendRequest,
): Promise<void> {
  const { engine, maintenance } = parts;
  const name = vm?.name ?? vmId;
  maintenance.refuseEnabling();
  if (promotion !== null) throw runsHere(name);
  if (engine.has(vmId)) throw extendedBefore(name, (await engine.status(vmId)).settings.replicaUrl);
  const settings = { vmId, targetId: randomUUID(), ...rest };
  return replicateOnward(parts, name, settings, { takesOver, initialStartAtMs });
}

function extendedBefore(name: string, replicaUrl: string): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot extend the replication of ${name}: because it is extended to ${replicaUrl} already.`,
    {
      hint: `A replica is extended to one host at a time; end that first: tidemark vm remove ${name}.`,
    },
  );
}

function runsHere(name: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot extend the replication of ${name}: because the VM runs on this host.`,
    { hint: "Cancel the failover first, or reverse the replication: tidemark vm reverse." },
  );
}
