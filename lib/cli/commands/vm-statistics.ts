import { Command } from "commander";
import type { HistoryBucketBody, VmStatisticsBody } from "../../management/statistics-schemas.js";
import { clientOf, globalOptions } from "../context.js";
import {
  counted,
  formatBytes,
  formatDuration,
  formatTime,
  printJson,
  printTable,
} from "../output.js";
import { parseSpanMs } from "../parse-span.js";
import { lastTestLine } from "../test-failover-lines.js";

interface Options {
  readonly reset?: boolean;
  readonly history?: string;
  readonly cycles?: boolean;
}

export function vmStatisticsCommand(): Command {
  return new Command("statistics")
    .description("show what a VM's replication did in this monitoring interval")
    .argument("<vm>", "its name or id, or VM@TARGET")
    .option("--reset", "count anew from now on; the history stays")
    .option(
      "--history <duration>",
      "over time instead: the last 24h, 7d, ..., in steps of 5 minutes",
    )
    .option("--cycles", "with --history: cycle by cycle, for at most the last day")
    .action(async (vm: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const { json } = globalOptions(command);
      if (options.history !== undefined) {
        const of = options.cycles === true ? "cycles" : "spans";
        const fromMs = Date.now() - parseSpanMs(options.history);
        const buckets = await client.call("vmHistory", { fromMs, of }, { vm });
        return json ? printJson(buckets) : printHistory(buckets);
      }
      const route = options.reset === true ? "vmStatisticsReset" : "vmStatistics";
      const statistics = await client.call(route, {}, { vm });
      if (json) return printJson(statistics);
      process.stdout.write(`${linesOf(statistics).join("\n")}\n`);
    });
}

function printHistory(buckets: readonly HistoryBucketBody[]): void {
  printTable(
    ["AT", "CYCLES", "MISSED", "ERRORS", "CHANGED", "UNCHANGED", "SENT", "LAG max", "PAUSE max"],
    buckets.map((bucket) => [
      formatTime(bucket.atMs),
      bucket.cycleCount,
      bucket.missedCount,
      bucket.errorCount,
      formatBytes(bucket.changedBytes),
      formatBytes(bucket.unchangedBytes ?? 0),
      formatBytes(bucket.sentBytes),
      formatDuration(bucket.lagMaxMs),
      `${(bucket.pauseMaxNs / 1e6).toFixed(2)} ms`,
    ]),
  );
}

function linesOf(statistics: VmStatisticsBody): string[] {
  const { name, role, state, health, lagMs, pendingBytes, current, previous } = statistics;
  const timeOf = (atMs: number | null) => (atMs === null ? "never" : formatTime(atMs));
  const lines = [
    `${name}, ${role}${state === null ? "" : `: ${state}, ${health ?? ""}`}`,
    `Lag: ${lagMs === null ? "-" : formatDuration(lagMs)}${pendingBytes === null ? "" : `; pending ${formatBytes(pendingBytes)}`}`,
    `State at the replica: of ${timeOf(statistics.lastPointValidUntilMs)}; last test failover ${timeOf(statistics.lastTestFailoverAtMs)}`,
  ];
  if (statistics.lastApplicationPointAtMs !== null) {
    lines.push(
      `Last application-consistent point: ${formatTime(statistics.lastApplicationPointAtMs)}`,
    );
  }
  if (statistics.lastTestFailover !== null) lines.push(lastTestLine(statistics.lastTestFailover));
  if (statistics.currentTask !== null) lines.push(`At work: ${statistics.currentTask}`);
  if (statistics.initialReplicationBytes !== null) {
    lines.push(`Initial replication: ${formatBytes(statistics.initialReplicationBytes)}`);
  }
  if (current !== null) lines.push(...intervalLines("Since", current));
  if (previous !== null) lines.push(...intervalLines("The interval before, from", previous));
  return lines;
}

type Interval = NonNullable<VmStatisticsBody["current"]>;

function intervalLines(title: string, interval: Interval): string[] {
  const { cycleCount, missedCount, errorCount, networkErrorCount, compressionRatio } = interval;
  const spread = ({ average, p50, p99, max }: Interval["lagMs"], digits: number) =>
    `average ${average.toFixed(digits)} ms, p50 ${p50.toFixed(digits)} ms, p99 ${p99.toFixed(digits)} ms, longest ${max.toFixed(digits)} ms`;
  const ratio = compressionRatio === null ? "-" : compressionRatio.toFixed(2);
  return [
    "",
    `${title} ${formatTime(interval.beginMs)}:`,
    `  Cycles: ${cycleCount} of ${cycleCount + missedCount}; ${missedCount} missed (${(100 * interval.missedShare).toFixed(1)} %); ${counted(errorCount, "error")}, ${networkErrorCount} of the network`,
    ...(interval.freezeFailureCount === 0
      ? []
      : [`  Not application-consistent, but meant to be: ${interval.freezeFailureCount}`]),
    `  Changed: ${formatBytes(interval.changedBytes)}; average ${formatBytes(interval.changedBytesAverage)}, largest ${formatBytes(interval.changedBytesMax)}`,
    ...(interval.unchangedBytes === 0
      ? []
      : [`  Unchanged in content, not sent: ${formatBytes(interval.unchangedBytes)}`]),
    `  Sent: ${formatBytes(interval.sentBytes)}; average ${formatBytes(interval.sentBytesAverage)}, largest ${formatBytes(interval.sentBytesMax)}; ratio ${ratio}`,
    `  Cycle: ${spread(interval.durationMs, 0)}`,
    `  Lag at commit: ${spread(interval.lagMs, 0)}`,
    `  Pause: ${spread(interval.pauseMs, 2)}`,
    ...Object.entries(interval.diskChangedBytes).map(
      ([disk, bytes]) => `  Disk ${disk}: ${formatBytes(bytes)} changed`,
    ),
  ];
}
