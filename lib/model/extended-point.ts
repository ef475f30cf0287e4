import type { Cut } from "./delta.js";
import { groupOfExtendedPoint } from "./group-points.js";
import type { RecoveryPoint } from "./replica-endpoint.js";

/**
 * The head after an empty cut: it is still what the disks hold, and what is true of the one is
 * true of the other. So applications that were at rest at this cut were so at the head.
 */
export function extendedPoint(head: RecoveryPoint, cut: Cut): RecoveryPoint {
  return {
    ...head,
    validUntilMs: Math.max(head.validUntilMs, cut.takenAtMs),
    consistency: cut.consistency === "application" ? "application" : head.consistency,
    ...groupOfExtendedPoint(head, cut),
  };
}
