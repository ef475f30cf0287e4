import { z } from "zod";
import { WARM } from "../access.js";
import type { BenchContext, Measurement, Trial, Workload } from "../model.js";
import { batchingClient } from "../nbd-client.js";
import { nbdTrial } from "../nbd-trial.js";
import { durableServer } from "../servers.js";
import { nativeTool, parseLines } from "../native-tool.js";

const line = z.object({
  bench: z.enum(["intent_first_touch", "intent_steady", "intent_from_quiet", "intent_sync_heavy"]),
  depth: z.number(),
  durability: z.enum(["power-safe", "process-safe"]),
  iops: z.number(),
  p50_us: z.number(),
  p99_us: z.number(),
  syncs: z.number(),
});

const TITLES = {
  intent_first_touch: "first touch",
  intent_steady: "steady state",
  intent_from_quiet: "over a quiet disk",
  intent_sync_heavy: "a flush after each write",
} as const;

function toMeasurement(value: unknown): Measurement {
  const found = line.parse(value);
  return {
    caseName: `4k randwrite ${TITLES[found.bench]}, depth ${found.depth}`,
    subject: found.durability,
    values: { iops: found.iops, p50Us: found.p50_us, p99Us: found.p99_us, syncs: found.syncs },
  };
}

/** A guest's random writes, over NBD, from a quiet disk on. */
function nbdTrials(context: BenchContext): Trial[][] {
  const tool = nativeTool("nbd_load_tool");
  if (tool === null) return [];
  const job = { mix: "randwrite", blockBytes: 4096, queueDepth: 32, connections: 4 } as const;
  const servers = [durableServer("power-safe"), durableServer("process-safe")];
  return [servers.map((server) => nbdTrial(job, server, context, WARM, batchingClient(tool)))];
}

/** What safety against power loss costs; both modes in turns. */
export const durability: Workload = {
  name: "durability",
  summary:
    "tracked writes, power-safe and process-safe in turns: first touch, steady, both, sync-heavy",
  metrics: [
    { key: "iops", title: "writes/s", better: "higher", digits: 0 },
    { key: "p50Us", title: "p50 µs", better: "lower", digits: 1 },
    { key: "p99Us", title: "p99 µs", better: "lower", digits: 0 },
    { key: "syncs", title: "syncs of the log", better: "lower", digits: 0 },
  ],
  peerRatio: { metric: "iops", peers: ["process-safe"] },
  plan: (context) => {
    const tool = nativeTool("intent_bench_tool");
    if (tool === null) {
      const skipped = ["durability: its program is not built; that takes cmake and ninja"];
      return Promise.resolve({ groups: [], rounds: 0, skipped });
    }
    const writes = context.sizing.isQuick ? "2000" : "20000";
    const trial = {
      name: "power-safe and process-safe",
      run: async (scope: typeof context.scope) =>
        parseLines(await scope.run([tool, context.directory, "1", writes]), toMeasurement),
    };
    return Promise.resolve({
      groups: [[trial], ...nbdTrials(context)],
      rounds: context.sizing.rounds,
      skipped: [],
    });
  },
};
