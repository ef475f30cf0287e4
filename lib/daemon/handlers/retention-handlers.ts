import type { RETENTION_ROUTES } from "../../management/routes/retention-routes.js";
import type { KeptPointBody, RetentionStatus } from "../../management/retention-schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { KeptPoint } from "../../replica/point-retention.js";
import type { HostParts } from "../host-parts.js";
import { findReplica } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function retentionHandlers(parts: HostParts): TopicHandlers<typeof RETENTION_ROUTES> {
  return {
    pointEdit: async (edit, { vm, point }) => {
      const { vmId, pointId } = await findPoint(parts, vm, point);
      const kept = await parts.replicaStore.retention.edit(vmId, pointId, edit);
      parts.retention.wake();
      return keptPointBody(kept);
    },
    pointDelete: async (_body, { vm, point }) => {
      const { vmId, pointId } = await findPoint(parts, vm, point);
      await parts.replicaStore.retention.delete(vmId, pointId);
      parts.retention.wake();
      return {};
    },
    retentionStatus: async (_body, { vm }) => describeRetention(parts, vm),
    retentionSet: async (request, { vm }) => {
      const { vmId } = await findReplica(parts, vm);
      await parts.replicaStore.retention.override(vmId, request);
      parts.retention.wake();
      return describeRetention(parts, vmId);
    },
  };
}

export function keptPointBody(kept: KeptPoint): KeptPointBody {
  const { point, label, isPinned, isOpen, storedBytes } = kept;
  return { ...point, label, isPinned, isOpen, storedBytes };
}

async function describeRetention(
  parts: HostParts,
  vm: string | undefined,
): Promise<RetentionStatus> {
  const { vmId, pointCount } = await findReplica(parts, vm);
  const { retention } = parts.replicaStore;
  const { tiers, maxPoints, ...own } = await retention.overrides(vmId);
  return {
    ...(await parts.retention.settingsOf(vmId)),
    own: {
      ...own,
      ...(tiers === undefined ? {} : { tiers: [...tiers] }),
      ...(maxPoints === undefined ? {} : { maxPoints }),
    },
    pointCount,
    storedBytes: await retention.storedBytes(vmId),
    warnings: parts.retention.warningsOf(vmId),
  };
}

/** By id or number. NOT_FOUND. */
async function findPoint(parts: HostParts, vm: string | undefined, idOrNumber = "") {
  const { vmId } = await findReplica(parts, vm);
  const points = await parts.replicaStore.points(vmId);
  const found = points.find(
    ({ pointId, sequence }) => pointId === idOrNumber || String(sequence) === idOrNumber,
  );
  if (found !== undefined) return { vmId, pointId: found.pointId };
  throw new TidemarkError(
    "NOT_FOUND",
    `Cannot find recovery point ${idOrNumber} of ${vm ?? ""}: because it has none of that id or number.`,
    { hint: "`tidemark vm points VM` lists them." },
  );
}
