import type { VmStatus } from "../management/schemas.js";
import { formatDuration } from "./output.js";
import { formatThrottle } from "./parse-throttle.js";

type Settings = NonNullable<VmStatus["relationship"]>["settings"];

/** How a VM is replicated, for people. */
export function settingsLines(settings: Settings): string[] {
  const { replicaUrl, intervalMs, isContinuous, compression, priority, throttle, resync } =
    settings;
  const rhythm = isContinuous ? "continuously" : `every ${formatDuration(intervalMs)}`;
  const level = typeof compression === "number" ? `level ${compression}` : compression;
  const policy = resync.mode === "window" ? `daily ${resync.from}-${resync.to}` : resync.mode;
  return [
    `Replica ${replicaUrl}, ${rhythm}`,
    `Compression ${level}; priority ${priority}; resynchronization ${policy}`,
    ...(settings.skipUnchanged ? ["Unchanged blocks are left out"] : []),
    ...applicationLines(settings),
    ...(throttle === null ? [] : [`Throttle: ${formatThrottle(throttle)}`]),
  ];
}

function applicationLines(settings: Settings): string[] {
  const { applicationConsistentEveryMs: everyMs, freezeScript, thawScript } = settings;
  if (everyMs === null) return [];
  const limit = formatDuration(settings.frozenLimitMs);
  return [
    `Application-consistent every ${formatDuration(everyMs)}: ${freezeScript ?? "-"}, ${thawScript ?? "-"}, at rest for at most ${limit}`,
  ];
}
