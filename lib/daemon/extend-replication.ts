import { randomUUID } from "node:crypto";
import type { ExtendRequest } from "../management/extended-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { ReplicaVmSummary } from "../replica/vm-summary.js";
import type { HostParts } from "./host-parts.js";
import { takeReplicaOver } from "./take-replica-over.js";

const PEER_ANSWER_LIMIT_MS = 3000;

/** Replicates a VM that this host keeps a replica of on to a third one. */
export async function extendReplication(
  parts: HostParts,
  { vmId, vm, promotion }: ReplicaVmSummary,
  request: ExtendRequest,
): Promise<void> {
  const { engine, maintenance } = parts;
  const name = vm?.name ?? vmId;
  maintenance.refuseEnabling();
  if (promotion !== null) throw runsHere(name);
  if (engine.has(vmId)) throw extendedBefore(name, (await engine.status(vmId)).settings.replicaUrl);
  const { initialStartAtMs, takesOver, ...rest } = request;
  const settings = { vmId, targetId: randomUUID(), ...rest };
  engine.requireEnableable(settings, initialStartAtMs);
  if (takesOver) {
    await using peer = parts.peers.connect({ ...rest, proxyUrl: rest.proxyUrl ?? null });
    return engine.takeOver(settings, await takeReplicaOver(peer, name, settings));
  }
  await requireNoReplicaThere(parts, { vmId, name, ...request });
  await engine.enable(settings, initialStartAtMs);
}

/** One that does not answer may do so later. */
async function requireNoReplicaThere(
  { peers }: HostParts,
  {
    vmId,
    name,
    replicaUrl,
    proxyUrl,
  }: ExtendRequest & { readonly vmId: string; readonly name: string },
): Promise<void> {
  await using peer = peers.connect({ replicaUrl, proxyUrl: proxyUrl ?? null });
  const found = await peer
    .status(vmId, AbortSignal.timeout(PEER_ANSWER_LIMIT_MS))
    .catch(() => null);
  if (found === null) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot extend the replication of ${name}: because ${replicaUrl} keeps a replica of it already.`,
    {
      hint: "Choose a third host; or, where that is a replica of former days, go on with it by --take-over.",
    },
  );
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
