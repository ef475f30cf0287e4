import { randomUUID } from "node:crypto";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { successorOf } from "../model/lineage.js";
import type { NewRelationshipSettings } from "../model/relationship-settings.js";
import type { ReplicaEndpoint, ReplicaVmStatus } from "../model/replica-endpoint.js";

const ANSWER_LIMIT_MS = 10_000;
/** Its former primary may commit a point between the question and the order. */
const TRIES = 5;

/**
 * Answers the replica as it is with this host as its primary: nobody else writes to it from then
 * on. An interruption leaves a replica without a primary, which may be taken over again.
 */
export async function takeReplicaOver(
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
      const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
      const status = await peer.succeed({ vmId, from: generation, to }, signal);
      failpoint("taken-over");
      return status;
    } catch (thrown) {
      const hasMoved = toTidemarkError(thrown).code === "PARENT_MISMATCH";
      if (!hasMoved || tries === TRIES) throw thrown;
    }
  }
}

async function statusThere(
  peer: ReplicaEndpoint,
  name: string,
  { vmId, replicaUrl }: Pick<NewRelationshipSettings, "vmId" | "replicaUrl">,
): Promise<ReplicaVmStatus> {
  try {
    return await peer.status(vmId, AbortSignal.timeout(ANSWER_LIMIT_MS));
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
