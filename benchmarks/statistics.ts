import { BenchError } from "./bench-error.js";
import type { Measurement, Row, Summary } from "./model.js";

export interface Sample {
  readonly measurement: Measurement;
  readonly othersCpuPercent: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new BenchError("Cannot take a median: because there is no value.");
  if (sorted.length % 2 === 1) return upper;
  return ((sorted[middle - 1] ?? upper) + upper) / 2;
}

export function summarize(samples: readonly number[]): Summary {
  return {
    median: median(samples),
    min: Math.min(...samples),
    max: Math.max(...samples),
    samples,
  };
}

/** One row for each case and subject, in the order in which they first came. */
export function toRows(workload: string, samples: readonly Sample[]): Row[] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { caseName, subject } = sample.measurement;
    const key = `${caseName}\n${subject}`;
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  return [...groups.values()].map((group) => toRow(workload, group));
}

function toRow(workload: string, group: readonly Sample[]): Row {
  const [first] = group;
  if (first === undefined) throw new BenchError("Cannot make a row: because there is no sample.");
  const { caseName, subject } = first.measurement;
  const keys = new Set(group.flatMap(({ measurement }) => Object.keys(measurement.values)));
  const metrics: Record<string, Summary> = {};
  for (const key of keys) {
    const values = group.map(({ measurement }) => measurement.values[key]);
    metrics[key] = summarize(values.filter((value) => value !== undefined));
  }
  const othersCpuPercent = median(group.map((sample) => sample.othersCpuPercent));
  return { workload, caseName, subject, metrics, othersCpuPercent };
}

/** The best median of a metric among some subjects in one case; null when none was measured. */
export function bestOf(
  rows: readonly Row[],
  caseName: string,
  subjects: readonly string[],
  metric: string,
  better: "higher" | "lower",
): { readonly subject: string; readonly value: number } | null {
  let best: { subject: string; value: number } | null = null;
  for (const row of rows) {
    const value = row.metrics[metric]?.median;
    if (row.caseName !== caseName || !subjects.includes(row.subject) || value === undefined)
      continue;
    const isBetter =
      best === null || (better === "higher" ? value > best.value : value < best.value);
    if (isBetter) best = { subject: row.subject, value };
  }
  return best;
}
