/** A relationship whose removal was begun: it can only be removed, whatever interrupts that. */
import { TidemarkError } from "../model/errors.js";
import type { RelationshipRecord } from "../model/relationship.js";

/** Nothing of it counts on the bits that are about to go. */
export const ENDING: Partial<RelationshipRecord> = {
  state: "suspended",
  isEnding: true,
  headPointId: null,
  inDoubt: null,
  stagingSessionId: null,
  allocationMarked: false,
};

export function refuseEnding({ isEnding }: RelationshipRecord, event: string): void {
  if (isEnding !== true) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot ${event} the replication: because its removal was begun and is not complete.`,
    { hint: "Repeat `tidemark vm remove`; the replica keeps its points." },
  );
}
