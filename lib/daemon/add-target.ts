import { randomUUID } from "node:crypto";
import type { TargetRequest } from "../management/target-schemas.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { successorOf } from "../model/lineage.js";
import { isGivenAway } from "../model/relationship.js";
import type { NewRelationshipSettings } from "../model/relationship-settings.js";
import type { ReplicaEndpoint, ReplicaVmStatus } from "../model/replica-endpoint.js";
import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";

const PEER_ANSWER_LIMIT_MS = 10_000;
/** Its former primary may commit a point between the question and the order. */
const TAKE_OVER_TRIES = 5;

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
    targetName: targetName ?? nameOf(rest.replicaUrl),
    ...rest,
  };
  engine.requireEnableable(settings, initialStartAtMs);
  await using peer = peers.connect({ ...rest, proxyUrl: rest.proxyUrl ?? null });
  if (takesOver) return engine.takeOver(settings, await takeOver(peer, name, settings));
  await requireNoReplicaThere(peer, name, settings);
  return engine.enable(settings, initialStartAtMs);
}

/** CONFLICT while the VM is another host's, or almost. */
function requireHere({ engine }: HostParts, { vmId, name, isWithheld }: VmDefinition): void {
  const isGiven = engine.idsOf(vmId).some((id) => isGivenAway(engine.standingOf(id)));
  if (!isGiven && isWithheld !== true) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot add a target to ${name}: because the VM was failed over, or is about to be.`,
    { hint: "Add it on the host that runs the VM; `tidemark vm status` shows the state." },
  );
}

/** As a name may be: an address has more than that. */
function nameOf(replicaUrl: string): string {
  const { hostname } = new URL(replicaUrl);
  const plain = hostname.replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return plain.slice(0, 64) || "target";
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

/** Answers the replica as it is with this host as its primary: nobody else writes to it from then on. */
async function takeOver(
  peer: ReplicaEndpoint,
  name: string,
  { vmId, targetId: holderId, replicaUrl }: NewRelationshipSettings,
): Promise<ReplicaVmStatus> {
  for (let tries = 1; ; tries += 1) {
    const { generation, head, lineage } = await statusThere(peer, name, { vmId, replicaUrl });
    if (lineage === undefined) throw isTooOld(name, replicaUrl);
    const rest = { forkPointId: head?.pointId ?? null, holderId, cause: "taken-over" } as const;
    const to = successorOf(generation, randomUUID(), rest);
    try {
      const signal = AbortSignal.timeout(PEER_ANSWER_LIMIT_MS);
      return await peer.succeed({ vmId, from: generation, to }, signal);
    } catch (thrown) {
      const hasMoved = toTidemarkError(thrown).code === "PARENT_MISMATCH";
      if (!hasMoved || tries === TAKE_OVER_TRIES) throw thrown;
    }
  }
}

async function statusThere(
  peer: ReplicaEndpoint,
  name: string,
  { vmId, replicaUrl }: Pick<NewRelationshipSettings, "vmId" | "replicaUrl">,
): Promise<ReplicaVmStatus> {
  try {
    return await peer.status(vmId, AbortSignal.timeout(PEER_ANSWER_LIMIT_MS));
  } catch (thrown) {
    if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot take the replica of ${name} over: because ${replicaUrl} keeps none.`,
      { hint: "Add the target without --take-over: everything is copied then." },
    );
  }
}

function isTooOld(name: string, replicaUrl: string): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    `Cannot take the replica of ${name} over: because the version of Tidemark at ${replicaUrl} cannot change a replica's primary.`,
    { hint: "Update Tidemark there." },
  );
}
