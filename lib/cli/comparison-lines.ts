import type { ComparisonReportBody } from "../management/verification-schemas.js";
import { extentsText } from "./extents-text.js";
import { formatBytes, formatTime } from "./output.js";

/** What a person wants to know of a comparison with the replica, a sentence a line. */
export function comparisonLines(report: ComparisonReportBody): string[] {
  return [summaryLine(report), ...report.disks.flatMap((disk) => diskLine(disk, report))];
}

function summaryLine(report: ComparisonReportBody): string {
  const { state, startedAtMs, endedAtMs, comparedBytes, totalBytes, waitsFor } = report;
  const amount = `${formatBytes(comparedBytes)} of ${formatBytes(totalBytes)}`;
  if (state === "running") {
    const why = waitsFor === null ? "" : `; it waits: ${waitsFor}`;
    return `Comparison with the replica under way: ${amount}${why}`;
  }
  const when = formatTime(endedAtMs ?? startedAtMs);
  if (state === "stopped") return `Comparison with the replica stopped: ${when}, ${amount}`;
  const outcome =
    report.differingBytes === 0 ? "no difference" : `${formatBytes(report.differingBytes)} differ`;
  return `Compared with the replica: ${when}, ${amount}: ${outcome}`;
}

function diskLine(
  { name, differingBytes, extents }: ComparisonReportBody["disks"][number],
  { isRepair }: ComparisonReportBody,
): string[] {
  if (differingBytes === 0) return [];
  const fate = isRepair ? "the next recovery point brings it" : "--repair would send it again";
  return [`Differs: disk ${name} at ${extentsText(extents)}; ${fate}`];
}
