import type { DeltaHeader } from "./delta.js";
import { groupOfNewPoint } from "./group-points.js";
import type { RecoveryPoint } from "./replica-endpoint.js";

/** The recovery point that a delta becomes when it is committed. */
export function pointOfDelta(
  { deltaId, parentPointId, generation, cut }: DeltaHeader,
  parts: Pick<RecoveryPoint, "sequence" | "digest" | "changedBytes">,
): RecoveryPoint {
  const { takenAtMs, sequence: cutSequence, consistency } = cut;
  return {
    pointId: deltaId,
    sequence: parts.sequence,
    parentPointId,
    generation,
    takenAtMs,
    validUntilMs: takenAtMs,
    cutSequence,
    consistency,
    digest: parts.digest,
    changedBytes: parts.changedBytes,
    ...groupOfNewPoint(cut),
  };
}
