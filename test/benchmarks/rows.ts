import type { Metric, Row } from "../../benchmarks/model.js";
import { summarize } from "../../benchmarks/statistics.js";

/** A row of the workload "nbd" with one metric, "iops". */
export function row(subject: string, iops: readonly number[], caseName = "4k randread 1x1"): Row {
  return {
    workload: "nbd",
    caseName,
    subject,
    metrics: { iops: summarize(iops) },
    othersCpuPercent: 0,
  };
}

export const IOPS: Metric = { key: "iops", title: "IOPS", better: "higher", digits: 0 };

export function metricOf(workload: string, key: string): Metric | undefined {
  return workload === "nbd" && key === "iops" ? IOPS : undefined;
}
