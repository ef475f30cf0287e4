import { TidemarkError } from "../model/errors.js";
import type { OpenDelta } from "./open-delta.js";
import type { VmReplica } from "./vm-replica.js";

/** NOT_FOUND. */
export function findOpenDelta(replicas: Iterable<VmReplica>, deltaId: string): OpenDelta {
  for (const { open } of replicas) {
    if (open?.header.deltaId === deltaId) return open;
  }
  throw new TidemarkError("NOT_FOUND", `Cannot use delta ${deltaId}: because it is not open.`);
}
