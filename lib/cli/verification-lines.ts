import type { VerificationStatusBody } from "../management/verification-schemas.js";
import { extentsText } from "./extents-text.js";
import { formatBytes, formatTime } from "./output.js";

type Damage = VerificationStatusBody["damage"][number];

/** What a person wants to know of a replica's verification, a sentence a line. */
export function verificationLines(status: VerificationStatusBody): string[] {
  return [
    ...runningLines(status),
    ...lastLines(status),
    ...(status.last?.mendedFiles ?? []).map((file) => `Mended: ${file}`),
    ...status.damage.map(damageLine),
    ...pointLines(status),
  ];
}

function runningLines({ running }: VerificationStatusBody): string[] {
  if (running === null) return [];
  const { verifiedBytes, totalBytes, isPaused } = running;
  const state = isPaused ? "paused" : "under way";
  return [`Verification ${state}: ${formatBytes(verifiedBytes)} of ${formatBytes(totalBytes)}`];
}

function lastLines({ last, lastFailure }: VerificationStatusBody): string[] {
  const lines = lastFailure === null ? [] : [`Verification did not end: ${lastFailure}`];
  if (last === null) return [...lines, "Last verified: never"];
  const what = last.pointSequence === null ? "all points" : `point ${last.pointSequence}`;
  const unknown =
    last.unknownBytes === 0 ? "" : `, ${formatBytes(last.unknownBytes)} without a checksum`;
  const read = `${formatBytes(last.verifiedBytes)} read${unknown}`;
  return [
    ...lines,
    `Last verified: ${formatTime(last.endedAtMs)}, ${what}, ${read}: ${last.result}`,
  ];
}

function damageLine({ kind, diskName, pointSequence, extents, file, reason }: Damage): string {
  if (kind === "document") return `Damaged: ${file}: ${reason}`;
  const where = kind === "base" ? "the base" : `recovery point ${pointSequence}`;
  return `Damaged: ${where}, disk ${diskName ?? ""}${kind === "layer" ? "" : ` at ${extentsText(extents)}`} (${file}): ${reason}`;
}

function pointLines({ damagedPoints, isHeadDamaged }: VerificationStatusBody): string[] {
  if (damagedPoints.length === 0) return [];
  const newest = isHeadDamaged ? ", the newest among them" : "; the newest is good";
  return [`Damaged recovery points: ${damagedPoints.join(", ")}${newest}`];
}
