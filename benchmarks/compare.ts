import type { Metric, Row, Summary } from "./model.js";

export type Verdict = "same" | "BETTER" | "WORSE";

export interface Comparison {
  readonly workload: string;
  readonly caseName: string;
  readonly subject: string;
  readonly metric: string;
  readonly oldMedian: number;
  readonly newMedian: number;
  /** New over old. */
  readonly ratio: number;
  /** "same" as long as the two spreads touch. */
  readonly verdict: Verdict;
}

/** Rows that only one side has are left out. */
export function compareRows(
  oldRows: readonly Row[],
  newRows: readonly Row[],
  metricOf: (workload: string, key: string) => Metric | undefined,
): Comparison[] {
  return newRows.flatMap((row) => {
    const old = oldRows.find(
      (candidate) =>
        candidate.workload === row.workload &&
        candidate.caseName === row.caseName &&
        candidate.subject === row.subject,
    );
    if (old === undefined) return [];
    return Object.entries(row.metrics).flatMap(([metric, now]) => {
      const before = old.metrics[metric];
      const better = metricOf(row.workload, metric)?.better;
      if (before === undefined || better === undefined) return [];
      const { workload, caseName, subject } = row;
      return [{ workload, caseName, subject, metric, ...compareOne(before, now, better) }];
    });
  });
}

function compareOne(before: Summary, now: Summary, better: "higher" | "lower") {
  const ratio =
    before.median === 0 ? (now.median === 0 ? 1 : Infinity) : now.median / before.median;
  const { median: oldMedian } = before;
  return { oldMedian, newMedian: now.median, ratio, verdict: judge(before, now, better) };
}

function judge(before: Summary, now: Summary, better: "higher" | "lower"): Verdict {
  const isHigher = now.min > before.max;
  const isLower = now.max < before.min;
  if (!isHigher && !isLower) return "same";
  return isHigher === (better === "higher") ? "BETTER" : "WORSE";
}
