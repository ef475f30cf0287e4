import type { FioJob } from "../fio.js";
import type { Derived, Row, Workload } from "../model.js";
import { NBD_METRICS, nbdTrial } from "../nbd-trial.js";
import { isInstalled } from "../program.js";
import { trackedServer, UNTRACKED } from "../servers.js";
import { median } from "../statistics.js";

/** Below that a difference of 2 % drowns in what two runs of the same program differ by. */
const MINIMUM_PAIRS = 30;
const METRICS = [
  { key: "serverCpu", title: "CPU time per request" },
  { key: "iops", title: "IOPS" },
  { key: "p99Us", title: "p99" },
] as const;
const TRACKED = trackedServer();

const JOBS: readonly FioJob[] = [
  { mix: "randwrite", blockBytes: 4096, queueDepth: 32, connections: 4 },
  { mix: "randread", blockBytes: 4096, queueDepth: 32, connections: 4 },
  { mix: "randwrite", blockBytes: 4096, queueDepth: 1, connections: 1 },
];

/** Each pair ran one right after the other: its ratio is free of what slowly drifts. */
function pairRatios(rows: readonly Row[]): Derived[] {
  return rows
    .filter((row) => row.subject === TRACKED.subject)
    .flatMap((on) => {
      const off = rows.find(
        (row) => row.caseName === on.caseName && row.subject === UNTRACKED.subject,
      );
      return off === undefined
        ? []
        : METRICS.flatMap(({ key, title }) => ratio(on, off, key, title));
    });
}

function ratio(on: Row, off: Row, key: string, title: string): Derived[] {
  const offSamples = off.metrics[key]?.samples ?? [];
  const ratios = (on.metrics[key]?.samples ?? []).flatMap((value, index) => {
    const base = offSamples[index];
    return base === undefined || base === 0 ? [] : [value / base];
  });
  if (ratios.length === 0) return [];
  const sorted = [...ratios].sort((a, b) => a - b);
  const quartile = (part: number) => (sorted[Math.floor(sorted.length * part)] ?? 0).toFixed(3);
  const spread = `median of ${ratios.length} pairs, the middle half ${quartile(0.25)} to ${quartile(0.75)}`;
  const name = `tracking on over off, ${on.caseName}, ${title} (${spread})`;
  return [{ name, value: median(ratios), unit: "x" }];
}

/** What tracking costs, in pairs: bound by no peer, only by the same server without it. */
export const pairs: Workload = {
  name: "pairs",
  summary: "tracking on and off in turns, in the page cache, many short pairs",
  metrics: NBD_METRICS,
  plan: (context) => {
    if (!isInstalled("fio")) {
      return Promise.resolve({ groups: [], rounds: 0, skipped: ["fio is not installed"] });
    }
    const { isQuick, rounds } = context.sizing;
    const groups = JOBS.map((job) =>
      [TRACKED, UNTRACKED].map((server) => nbdTrial(job, server, context)),
    );
    return Promise.resolve({
      groups,
      rounds: isQuick ? 1 : Math.max(MINIMUM_PAIRS, rounds),
      skipped: [],
    });
  },
  derive: pairRatios,
};
