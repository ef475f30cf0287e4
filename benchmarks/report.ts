import type { Comparison } from "./compare.js";
import type { Derived, Metric, Row, Summary, Workload } from "./model.js";
import { bestOf } from "./statistics.js";
import { formatNumber, formatTable } from "./table.js";

/** Strangers that used more of the machine than this disturbed the row. */
const DISTURBED_PERCENT = 10;

/** A workload's rows as a table: medians, and in brackets the smallest and largest sample. */
export function formatRows(
  workload: Pick<Workload, "name" | "summary" | "metrics" | "peerRatio">,
  rows: readonly Row[],
): string {
  const metrics = workload.metrics.filter(({ key }) => rows.some((row) => key in row.metrics));
  const head = ["case", "subject", ...metrics.map(({ title }) => title)];
  const hasRatio = workload.peerRatio !== undefined;
  if (hasRatio) head.push("of best peer");
  head.push("others' CPU");
  const body = rows.map((row) => [
    row.caseName,
    row.subject,
    ...metrics.map((metric) => formatSummary(row.metrics[metric.key], metric.digits)),
    ...(hasRatio ? [peerRatio(workload, rows, row)] : []),
    formatOthers(row.othersCpuPercent),
  ]);
  return `${workload.name}: ${workload.summary}\n\n${formatTable(head, body)}\n`;
}

function formatSummary(summary: Summary | undefined, digits: number): string {
  if (summary === undefined) return "-";
  const { median, min, max, samples } = summary;
  const middle = formatNumber(median, digits);
  if (samples.length === 1) return middle;
  return `${middle} (${formatNumber(min, digits)}..${formatNumber(max, digits)})`;
}

function peerRatio(
  workload: Pick<Workload, "metrics" | "peerRatio">,
  rows: readonly Row[],
  row: Row,
): string {
  const { peerRatio: ratio } = workload;
  if (ratio === undefined || ratio.peers.includes(row.subject)) return "";
  const better = workload.metrics.find(({ key }) => key === ratio.metric)?.better ?? "higher";
  const best = bestOf(rows, row.caseName, ratio.peers, ratio.metric, better);
  const own = row.metrics[ratio.metric]?.median;
  return best === null || own === undefined ? "-" : `${(own / best.value).toFixed(2)}x`;
}

function formatOthers(percent: number): string {
  return `${percent.toFixed(0)} %${percent > DISTURBED_PERCENT ? " !" : ""}`;
}

export function formatDerived(derived: readonly Derived[]): string {
  return derived.map(({ name, value, unit }) => `${name}: ${value.toFixed(2)} ${unit}`).join("\n");
}

export function disturbanceNote(rows: readonly Row[]): string | null {
  const count = rows.filter((row) => row.othersCpuPercent > DISTURBED_PERCENT).length;
  if (count === 0) return null;
  return `! ${count} of ${rows.length} rows were measured while other programs used more than ${DISTURBED_PERCENT} % of the machine: compare them only with rows of the same run.`;
}

export function formatComparison(
  comparisons: readonly Comparison[],
  metricOf: (workload: string, key: string) => Metric | undefined,
): string {
  const head = ["case", "subject", "metric", "old", "new", "ratio", ""];
  const rows = comparisons.map((one) => {
    const metric = metricOf(one.workload, one.metric);
    const digits = metric?.digits ?? 2;
    return [
      `${one.workload}: ${one.caseName}`,
      one.subject,
      metric?.title ?? one.metric,
      formatNumber(one.oldMedian, digits),
      formatNumber(one.newMedian, digits),
      `${one.ratio.toFixed(2)}x`,
      one.verdict === "same" ? "" : one.verdict,
    ];
  });
  return formatTable(head, rows, 3);
}
