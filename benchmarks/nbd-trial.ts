import { open } from "node:fs/promises";
import { type Access, accessName, WARM } from "./access.js";
import { cpuSecondsOf } from "./cpu-time.js";
import { type FioJob, jobName, type LoadResult, runFio } from "./fio.js";
import type { BenchContext, Measurement, Metric, Scratch, Trial } from "./model.js";
import { FIO, type NbdClient } from "./nbd-client.js";
import type { Scope } from "./scope.js";
import { makeDirectory } from "./scratch.js";
import { type ServerKind, startServer } from "./servers.js";

export const NBD_METRICS: readonly Metric[] = [
  { key: "iops", title: "IOPS", better: "higher", digits: 0 },
  { key: "mibPerSecond", title: "MiB/s", better: "higher", digits: 0 },
  { key: "meanUs", title: "mean µs", better: "lower", digits: 1 },
  { key: "p50Us", title: "p50 µs", better: "lower", digits: 1 },
  { key: "p99Us", title: "p99 µs", better: "lower", digits: 0 },
  { key: "serverCpu", title: "server CPU s/M requests", better: "lower", digits: 2 },
];

/** One server, started afresh, under one load. */
export function nbdTrial(
  job: FioJob,
  kind: ServerKind,
  context: BenchContext,
  access: Access = WARM,
  client: NbdClient = FIO,
): Trial {
  const caseName = jobName(job) + accessName(access) + client.caseSuffix;
  return {
    name: `${caseName} ${kind.subject}`,
    caseName,
    run: async (scope) => {
      const { path, sizeBytes } = await settled(context, access, scope);
      const directory = await makeDirectory(scope, context.socketDirectory, "nbd-");
      const server = await startServer(kind, path, access, directory, scope);
      const before = await cpuSecondsOf(server.program.pid);
      const { seconds } = context.sizing;
      const place = { uri: server.uri, sizeBytes, directory };
      const result = await client.run(job, place, seconds, scope);
      const spent = (await cpuSecondsOf(server.program.pid)) - before;
      const serverCpu = (spent / result.requestCount) * 1e6;
      return [measurement(caseName, kind.subject, result, { serverCpu })];
    },
  };
}

/** The same requests by system calls of fio itself. */
export function rawTrial(job: FioJob, context: BenchContext): Trial {
  const caseName = jobName(job);
  return {
    name: `${caseName} raw`,
    caseName,
    run: async (scope) => {
      const { path, sizeBytes } = await settled(context, WARM, scope);
      const directory = await makeDirectory(scope, context.socketDirectory, "raw-");
      const { seconds } = context.sizing;
      const result = await runFio(job, { path }, sizeBytes, seconds, directory, scope);
      return [measurement(caseName, "raw file", result, {})];
    },
  };
}

/** Everybody begins alike: nothing of the trial before waits to be written, and the cache is full or empty. */
async function settled(context: BenchContext, access: Access, scope: Scope) {
  const scratch = await context.scratch();
  await sync(scratch.path);
  if (access.cache === "warm") await readAll(scratch, context.scope.signal);
  // GNU dd's way to drop a file from the page cache.
  else await scope.run(["dd", `if=${scratch.path}`, "iflag=nocache", "count=0", "status=none"]);
  return scratch;
}

async function sync(path: string): Promise<void> {
  await using file = await open(path, "r+");
  await file.datasync();
}

async function readAll({ path, sizeBytes }: Scratch, signal: AbortSignal): Promise<void> {
  await using file = await open(path, "r");
  const piece = Buffer.allocUnsafe(4 * 2 ** 20);
  for (let offset = 0; offset < sizeBytes; offset += piece.length) {
    signal.throwIfAborted();
    await file.read(piece, 0, Math.min(piece.length, sizeBytes - offset), offset);
  }
}

function measurement(
  caseName: string,
  subject: string,
  result: LoadResult,
  more: Readonly<Record<string, number>>,
): Measurement {
  const { requestCount: _count, ...values } = result;
  return { caseName, subject, values: { ...values, ...more } };
}
