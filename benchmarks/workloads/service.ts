import type { Derived, Row, Workload } from "../model.js";
import { controlPlaneTrial } from "../service/control-plane.js";
import { idleTrials } from "../service/idle.js";
import { lagTrial } from "../service/lag.js";
import { randomBlockTrials } from "../service/random-blocks.js";
import { sparseTrials } from "../service/sparse.js";

/** What a service costs and how far it lags, beside the bytes of its cycles. */
export const service: Workload = {
  name: "service",
  summary: "two hosts on loopback, mutual TLS: idle cost, lag, bytes on the wire, first copies",
  metrics: [
    { key: "cpuMsPerCycle", title: "CPU ms a cycle", better: "lower", digits: 2 },
    { key: "cycles", title: "cycles", better: "higher", digits: 0 },
    { key: "cores", title: "cores", better: "lower", digits: 3 },
    { key: "idleMib", title: "idle MiB", better: "lower", digits: 0 },
    { key: "perRelationshipMib", title: "MiB a relationship", better: "lower", digits: 2 },
    { key: "lagP50Ms", title: "lag p50 ms", better: "lower", digits: 0 },
    { key: "lagP99Ms", title: "lag p99 ms", better: "lower", digits: 0 },
    { key: "writesPerSecond", title: "writes/s", better: "higher", digits: 0 },
    { key: "sentKib", title: "sent KiB", better: "lower", digits: 0 },
    { key: "seconds", title: "seconds", better: "lower", digits: 2 },
    { key: "answerP50Ms", title: "answer p50 ms", better: "lower", digits: 1 },
    { key: "answerP99Ms", title: "answer p99 ms", better: "lower", digits: 1 },
  ],
  plan: (context) => {
    const blocks = randomBlockTrials(context);
    const skipped = blocks.length === 0 ? ["random blocks: zstd is not installed"] : [];
    const [one, many] = idleTrials(context).map((trial) => [trial]);
    const groups = [one ?? [], many ?? [], [lagTrial(context)], blocks, sparseTrials(context)];
    groups.push([controlPlaneTrial(context)]);
    const { isQuick, rounds } = context.sizing;
    return Promise.resolve({ groups, rounds: isQuick ? 1 : Math.min(rounds, 3), skipped });
  },
  derive: (rows) => [
    ...ratio(
      rows,
      "sparse 1 TiB beside the full disk",
      "seconds",
      "sparse 1 TiB",
      "a disk full of it",
    ),
    ...ratio(rows, "bytes sent beside zstd -1 alone", "sentKib", "tidemark", "zstd -1"),
  ],
};

function ratio(
  rows: readonly Row[],
  name: string,
  metric: string,
  subject: string,
  beside: string,
): Derived[] {
  const median = (of: string) =>
    rows.find((row) => row.subject === of && row.metrics[metric] !== undefined)?.metrics[metric]
      ?.median;
  const [own, other] = [median(subject), median(beside)];
  if (own === undefined || other === undefined) return [];
  return [{ name, value: own / other, unit: "x" }];
}
