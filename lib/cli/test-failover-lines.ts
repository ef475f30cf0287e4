/** Test failovers for people. */
import type {
  TestFailoverBody,
  TestFailoverReportBody,
} from "../management/test-failover-schemas.js";
import { formatBytes, formatDuration, formatTime } from "./output.js";

type State = TestFailoverBody["test"];

export function formatEnd(untilMs: number | null): string {
  return untilMs === null ? "until it is closed" : `until ${formatTime(untilMs)}`;
}

export function checkLine(check: State["check"]): string {
  if (check === null) return "not checked";
  const { state, verifiedBytes, durationMs, failure } = check;
  if (state === "running") return "is being checked";
  const took = formatDuration(durationMs ?? 0);
  if (state === "failed") return `could not be checked: ${failure ?? "-"}`;
  return `checked ${formatBytes(verifiedBytes)} in ${took}: ${state}`;
}

/** One open test failover, with where its disks are reached. */
export function openTestLines({
  exportId,
  point,
  test,
  disks,
}: TestFailoverBody): readonly string[] {
  const { sinceMs, untilMs, ageMs, scratchBytes, scratchLimitBytes, group } = test;
  const limit = scratchLimitBytes === null ? "" : ` of ${formatBytes(scratchLimitBytes)}`;
  const lines = [
    `Test failover ${exportId} of point ${point.sequence}: since ${formatTime(sinceMs)} (${formatDuration(ageMs)}), ${formatEnd(untilMs)}`,
    `  ${formatBytes(scratchBytes)}${limit} written, ${test.clientCount} clients; ${checkLine(test.check)}`,
  ];
  if (group !== null) {
    lines.push(`  One of group ${group.name} at cut ${group.cutNumber}, test ${group.testId}`);
  }
  if (test.refusedWriteCount > 0) {
    lines.push(
      `  No room: ${test.refusedWriteCount} writes failed with ENOSPC; replication goes on`,
    );
  }
  return [...lines, ...disks.map(({ name, uri }) => `  ${name} ${uri}`)];
}

export function lastTestLine(last: TestFailoverReportBody): string {
  const { pointSequence, pointId, sinceMs, endedAtMs, outcome, scratchBytes, check } = last;
  const refused = last.refusedWriteCount > 0 ? `, ${last.refusedWriteCount} writes refused` : "";
  return `Last test failover: of point ${pointSequence ?? pointId}, from ${formatTime(sinceMs)} to ${formatTime(endedAtMs)}, ended by: ${outcome}; ${formatBytes(scratchBytes)} written${refused}; ${checkLine(check)}`;
}
