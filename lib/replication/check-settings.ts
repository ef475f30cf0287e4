import { TidemarkError } from "../model/errors.js";
import {
  MAX_COMPRESSION_LEVEL,
  type RelationshipSettings,
} from "../model/relationship-settings.js";
import { parseUuid } from "../model/uuid.js";

const SHORTEST_INTERVAL_MS = 100;

/** Answers them with canonical ids. INVALID_ARGUMENT. */
export function checkSettings(settings: RelationshipSettings): RelationshipSettings {
  const { intervalMs, isContinuous, compression, group } = settings;
  if (!Number.isSafeInteger(intervalMs) || intervalMs < SHORTEST_INTERVAL_MS) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot replicate every ${intervalMs} ms: because the shortest interval is ${SHORTEST_INTERVAL_MS} ms.`,
    );
  }
  if (typeof compression === "number" && !isLevel(compression)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot compress at level ${compression}: because levels go from 1 to ${MAX_COMPRESSION_LEVEL}.`,
      { hint: "1 is the fastest; 3 is a good choice for slow lines." },
    );
  }
  if (isContinuous && group !== undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot replicate continuously: because the VMs of group ${group} are cut at one interval.`,
      { hint: "Leave the group first, or give an interval." },
    );
  }
  requireScripts(settings);
  requireFitForTarget(settings);
  const vmId = parseUuid(settings.vmId, "VM id");
  return { ...settings, vmId, targetId: parseUuid(settings.targetId, "target id") };
}

function requireScripts(settings: RelationshipSettings): void {
  const { applicationConsistentEveryMs, freezeScript, thawScript } = settings;
  if (applicationConsistentEveryMs === null) return;
  if (freezeScript !== null && thawScript !== null) return;
  const missing = freezeScript === null ? "freeze" : "thaw";
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot make application-consistent points: because no script to ${missing} the applications is named.`,
    { hint: "Name one to freeze and one to thaw them; it may be the same." },
  );
}

/** The VM's cuts with others, and its applications' rest, are its first target's. */
function requireFitForTarget(settings: RelationshipSettings): void {
  const { targetName, group, applicationConsistentEveryMs } = settings;
  if (targetName === undefined) return;
  if (group === undefined && applicationConsistentEveryMs === null) return;
  const what = group === undefined ? "application-consistent points" : "a consistency group";
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot give target ${targetName} ${what}: because only the VM's first target can have them.`,
    { hint: "Enable the VM's replication to the host that is to have them, and add the others." },
  );
}

function isLevel(level: number): boolean {
  return Number.isInteger(level) && level >= 1 && level <= MAX_COMPRESSION_LEVEL;
}
