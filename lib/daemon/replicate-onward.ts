import type { OnwardRequest } from "../management/onward-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { NewRelationshipSettings } from "../model/relationship-settings.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { HostParts } from "./host-parts.js";
import { takeReplicaOver } from "./take-replica-over.js";

const PEER_ANSWER_LIMIT_MS = 10_000;

/** Begins a replication of VM `name` to a host that keeps none of it, or whose replica this host takes over. */
export async function replicateOnward(
  { engine, peers }: Pick<HostParts, "engine" | "peers">,
  name: string,
  settings: NewRelationshipSettings,
  { takesOver, initialStartAtMs }: Pick<OnwardRequest, "takesOver" | "initialStartAtMs">,
): Promise<void> {
  engine.requireEnableable(settings, initialStartAtMs);
  const { replicaUrl, proxyUrl = null } = settings;
  await using peer = peers.connect({ replicaUrl, proxyUrl });
  if (takesOver) return engine.takeOver(settings, await takeReplicaOver(peer, name, settings));
  await requireNoReplicaThere(peer, name, settings);
  return engine.enable(settings, initialStartAtMs);
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
      hint: "Choose another host; or, with --take-over, this host becomes that replica's primary, and only what differs travels.",
    },
  );
}
