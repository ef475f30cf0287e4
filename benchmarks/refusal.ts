import type { TargetFacts } from "./target-facts.js";

/** Why the place must not be written to, as one sentence; null when it may. */
export function refusalOf(facts: TargetFacts, destroyData: boolean): string | null {
  const { path, kind } = facts;
  if (kind === "absent" || kind === "directory") {
    if (!destroyData) return null;
    return refuse(path, "there is no data to destroy", "Leave --destroy-data out.");
  }
  if (kind === "other") {
    return refuse(path, "it is no file, directory or block device", "Name one of these.");
  }
  const reason = unsafe(facts);
  if (reason !== null) return refuse(path, reason, "Name a place that holds nothing.");
  if (destroyData) return null;
  return refuse(
    path,
    "it exists, and what it holds would be lost",
    "Name a directory on that storage instead, or add --destroy-data.",
  );
}

/** These hold whatever the user says. */
function unsafe(facts: TargetFacts): string | null {
  const { mountedAt, heldBy, signature, unsure } = facts;
  if (mountedAt.length > 0) return `it is mounted at ${mountedAt.join(", ")}`;
  if (heldBy.length > 0) return `it is in use by ${heldBy.join(", ")}`;
  if (signature !== null) return `it bears ${signature}`;
  return unsure.length > 0 ? unsure.join("; ") : null;
}

function refuse(path: string, why: string, instead: string): string {
  return `Cannot measure on ${path}: because ${why}. ${instead}`;
}
