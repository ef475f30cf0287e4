import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { LoadResult } from "../fio.js";
import type { BenchContext, Measurement, Trial, Workload } from "../model.js";
import { parseLoad } from "../nbd-client.js";
import { nativeTool, parseLines } from "../native-tool.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const PROGRAM = fileURLToPath(new URL("../programs/grouped-disks.ts", import.meta.url));
const DISK_COUNT = 8;
const DISK_BYTES = 64 * 2 ** 20;
const PERIOD_SECONDS = 0.1;
/** A file system in memory: what a write waits for there is ours. */
const MEMORY = "/dev/shm";

/** 4 x 32 writes in flight in all; a connection reaches one disk. */
const LOADS = [
  { connections: 8, depth: 16, name: "8x16 random writes", inMemory: true },
  { connections: 4, depth: 32, name: "4x32 random writes on four of them", inMemory: true },
  {
    connections: 8,
    depth: 16,
    name: "8x16 random writes, written back to storage",
    inMemory: false,
  },
] as const;

const served = z.object({ uris: z.array(z.string()) });
const measured = z.object({
  pausesNs: z.array(z.number()).min(1),
  missedCount: z.number(),
  inFlightCount: z.number(),
  changedBytes: z.number(),
});
type Measured = z.infer<typeof measured>;

/** How long the gates of a group are closed, and what the load noticed of it. */
export const cuts: Workload = {
  name: "cuts",
  summary: `${DISK_COUNT} disks of one consistency group, a cut each 100 ms, power-safe`,
  metrics: [
    { key: "pauseP50Ms", title: "pause p50 ms", better: "lower", digits: 2 },
    { key: "pauseP99Ms", title: "pause p99 ms", better: "lower", digits: 2 },
    { key: "pauseMaxMs", title: "pause max ms", better: "lower", digits: 2 },
    { key: "cuts", title: "cuts", better: "higher", digits: 0 },
    { key: "missed", title: "missed", better: "lower", digits: 0 },
    { key: "inFlight", title: "in flight at a cut", better: "higher", digits: 0 },
    { key: "changedMib", title: "MiB a cut", better: "higher", digits: 1 },
    { key: "loadIops", title: "load's writes/s", better: "higher", digits: 0 },
    { key: "loadP50Ms", title: "load's p50 ms", better: "lower", digits: 2 },
    { key: "loadP99Ms", title: "load's p99 ms", better: "lower", digits: 2 },
  ],
  plan: (context) => {
    const tool = nativeTool("nbd_load_tool");
    if (tool === null) {
      const skipped = ["cuts: its client is not built; that takes cmake and ninja"];
      return Promise.resolve({ groups: [], rounds: 0, skipped });
    }
    const { isQuick, rounds } = context.sizing;
    const groups = LOADS.map((load) => [trialOf(load, tool, context)]);
    return Promise.resolve({ groups, rounds: isQuick ? 1 : Math.min(rounds, 3), skipped: [] });
  },
};

function trialOf(load: (typeof LOADS)[number], tool: string, context: BenchContext): Trial {
  const caseName = `${DISK_COUNT} disks, ${load.name}`;
  return {
    name: caseName,
    caseName,
    run: async (scope) => [await measure(scope, load, tool, context, caseName)],
  };
}

async function measure(
  scope: Scope,
  { connections, depth, inMemory }: (typeof LOADS)[number],
  tool: string,
  context: BenchContext,
  caseName: string,
): Promise<Measurement> {
  const cutCount = context.sizing.isQuick ? 10 : inMemory ? 300 : 150;
  const directory = await makeDirectory(scope, inMemory ? MEMORY : context.directory, "cuts-");
  const socketDirectory = await makeDirectory(scope, context.socketDirectory, "cuts-");
  const settings = [join(socketDirectory, "nbd.sock"), DISK_COUNT, DISK_BYTES, cutCount];
  const command = [
    process.execPath,
    "--import",
    "tsx",
    PROGRAM,
    directory,
    ...settings.map(String),
  ];
  const program = scope.start(command);
  await program.until(() => program.output.includes("uris"));
  const [{ uris } = { uris: [] }] = parseLines(program.output, (line) => served.parse(line));
  // Longer than the cuts by a little, so that all of them are under load.
  const seconds = cutCount * PERIOD_SECONDS * 1.15 + 3;
  const loadSettings = [uris.join(","), connections, depth, 0, seconds];
  const load = parseLoad(await scope.run([tool, ...loadSettings.map(String)]), 4096);
  await program.until(() => program.output.includes("pausesNs"));
  const [, found] = parseLines(program.output, (line) => line);
  const values = { ...pauseValues(measured.parse(found)), ...loadValues(load) };
  return { caseName, subject: "tidemark", values };
}

function pauseValues({ pausesNs, missedCount, inFlightCount, changedBytes }: Measured) {
  const sorted = [...pausesNs].sort((a, b) => a - b);
  const pauseMs = (share: number) => (sorted[Math.ceil(share * sorted.length) - 1] ?? 0) / 1e6;
  return {
    pauseP50Ms: pauseMs(0.5),
    pauseP99Ms: pauseMs(0.99),
    pauseMaxMs: pauseMs(1),
    cuts: sorted.length,
    missed: missedCount,
    inFlight: inFlightCount / sorted.length,
    changedMib: changedBytes / sorted.length / 2 ** 20,
  };
}

function loadValues({ iops, p50Us, p99Us }: LoadResult) {
  return { loadIops: iops, loadP50Ms: p50Us / 1000, loadP99Ms: p99Us / 1000 };
}
