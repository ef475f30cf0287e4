/** The records that relationships begin with. */
import { randomUUID } from "node:crypto";
import { type Lineage, presentEntry } from "../model/lineage.js";
import type { FirstCopy, RelationshipRecord } from "../model/relationship.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import type { ReplicaVmStatus } from "../model/replica-endpoint.js";

/** Whatever the wall clock is set to. */
export const AT_ONCE = 0;

const NEW_RECORD = {
  state: "ready",
  headPointId: null,
  cutSequence: 0,
  inDoubt: null,
  stagingSessionId: null,
  allocationMarked: false,
  isResyncOrdered: false,
} as const;

export function enabledRecord(
  settings: RelationshipSettings,
  initialStartAtMs: number | null,
  firstCopy: FirstCopy | null,
): RelationshipRecord {
  return {
    ...NEW_RECORD,
    settings,
    generation: { number: 1, id: randomUUID() },
    initialStartAtMs,
    ...(firstCopy === null ? {} : { firstCopy }),
  };
}

export function reversedRecord(
  settings: RelationshipSettings,
  lineage: Lineage,
  formerHeadId: string | undefined,
): RelationshipRecord {
  return {
    ...NEW_RECORD,
    settings,
    generation: presentEntry(lineage).generation,
    initialStartAtMs: AT_ONCE,
    allocationMarked: true,
    firstCopy: { by: "return", lineage, formerHeadId },
  };
}

/**
 * Of a replica whose lineage names this relationship as its holder by now. The VM's disks have
 * no marks for it: a target that is missing is added with all of it suspect.
 */
export function takenOverRecord(
  settings: RelationshipSettings,
  { generation, vm, head }: ReplicaVmStatus,
): RelationshipRecord {
  const begun = { ...NEW_RECORD, settings, generation, holderId: settings.targetId };
  if (head === null) return { ...begun, initialStartAtMs: AT_ONCE };
  return {
    ...begun,
    state: "replicating",
    headPointId: head.pointId,
    cutSequence: head.cutSequence,
    initialStartAtMs: AT_ONCE,
    allocationMarked: true,
    markedDiskIds: vm.disks.map(({ diskId }) => diskId),
    isResyncOrdered: true,
    isHeadForeign: true,
  };
}
