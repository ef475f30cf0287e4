import type { Cut } from "./delta.js";
import type { CheckpointOptions } from "./vm-tracker.js";

export function memoryCut(sequence: number, takenAtMs: number, { group }: CheckpointOptions): Cut {
  const measured = { pauseNs: 1000, requestsInFlight: 0, consistency: "crash" } as const;
  return { sequence, takenAtMs, ...measured, ...(group === undefined ? {} : { group }) };
}
