import type { FirstCopyStatus, RelationshipRecord } from "../model/relationship.js";

/** Null once there is a recovery point. */
export function firstCopyStatus({
  firstCopy,
  headPointId,
  stagingSessionId,
}: RelationshipRecord): FirstCopyStatus | null {
  if (headPointId !== null) return null;
  if (firstCopy?.by === "medium") {
    const waitsFor = firstCopy.stage === "written" ? "import" : null;
    return { by: "medium", waitsFor, directory: firstCopy.directory };
  }
  if (firstCopy?.by === "seed") {
    return { by: "seed", waitsFor: stagingSessionId === null ? "seed" : null, directory: null };
  }
  if (firstCopy?.by === "return") return { by: "return", waitsFor: null, directory: null };
  return { by: "network", waitsFor: null, directory: null };
}
