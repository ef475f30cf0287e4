import { randomUUID } from "node:crypto";
import type { TargetRequest } from "../management/target-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { NewRelationshipSettings } from "../model/relationship-settings.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";
import { takeReplicaOver } from "./take-replica-over.js";
import { targetNameOf } from "./target-name.js";

const PEER_ANSWER_LIMIT_MS = 10_000;

/** Replicates a VM that this host is the primary of to one more host. */
export async function addTarget(
  parts: HostParts,
  definition: VmDefinition,
  { targetName, takesOver, initialStartAtMs, ...rest }: TargetRequest,
): Promise<void> {
  const { engine, maintenance, peers } = parts;
  const { vmId, name } = definition;
  maintenance.refuseEnabling();
  requireHere(parts, definition);
  const settings = {
    vmId,
    targetId: randomUUID(),
    targetName: targetName ?? targetNameOf(rest.replicaUrl),
    ...rest,
  };
  engine.requireEnableable(settings, initialStartAtMs);
  await using peer = peers.connect({ ...rest, proxyUrl: rest.proxyUrl ?? null });
  if (takesOver) return engine.takeOver(settings, await takeReplicaOver(peer, name, settings));
  await requireNoReplicaThere(peer, name, settings);
  return engine.enable(settings, initialStartAtMs);
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

/** One that does not answer may do so later. */
async function requireNoReplicaThere(
  peer: ReplicaEndpoint,
  name: string,
  { vmId, replicaUrl }: NewRelationshipSettings,
): Promise<void> {
  const status = await peer
    .status(vmId, AbortSignal.timeout(PEER_ANSWER_LIMIT_MS))
    .catch(() => null);
  if (status === null) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot replicate ${name} to ${replicaUrl}: because that host keeps a replica of it already.`,
    {
      hint: "With --take-over this host becomes that replica's primary, and only what differs travels.",
    },
  );
}
