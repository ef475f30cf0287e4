import { z } from "zod";
import { BenchError } from "./bench-error.js";
import type { Mix } from "./model.js";
import type { Scope } from "./scope.js";

export interface FioJob {
  readonly mix: Mix;
  readonly blockBytes: number;
  readonly queueDepth: number;
  readonly connections: number;
  /** A flush after so many writes; absent: none. */
  readonly writesPerFlush?: number;
}

/** Where fio sends its requests: an NBD server, or a file by one system call a request. */
export type FioTarget = { readonly uri: string } | { readonly path: string };

/** What a load found out, whichever client made it. */
export interface LoadResult {
  readonly requestCount: number;
  readonly iops: number;
  readonly mibPerSecond: number;
  readonly meanUs: number;
  /** Of reads and writes, the slower. */
  readonly p50Us: number;
  readonly p99Us: number;
}

export function jobName(job: FioJob): string {
  const { mix, blockBytes, queueDepth, connections, writesPerFlush } = job;
  const block = blockBytes >= 2 ** 20 ? `${blockBytes / 2 ** 20}m` : `${blockBytes / 1024}k`;
  const flushes = writesPerFlush === undefined ? "" : `, a flush for ${writesPerFlush}`;
  return `${block} ${mix} ${connections}x${queueDepth}${flushes}`;
}

export function fioCommand(
  job: FioJob,
  target: FioTarget,
  sizeBytes: number,
  seconds: number,
): string[] {
  const [engine, place] =
    "uri" in target ? ["nbd", `--uri=${target.uri}`] : ["psync", `--filename=${target.path}`];
  const load = `--rw=${job.mix} --bs=${job.blockBytes} --iodepth=${job.queueDepth} --numjobs=${job.connections} --size=${sizeBytes}`;
  const flushes = job.writesPerFlush === undefined ? [] : [`--fsync=${job.writesPerFlush}`];
  const time = `--time_based=1 --runtime=${Math.round(seconds * 1000)}ms --norandommap=1`;
  // One process with threads: nothing of it outlives a signal. The file stays cached.
  const safety = "--thread=1 --invalidate=0 --allow_file_create=0 --verify_state_save=0";
  // Of the whole latency: the NBD engine may find the reply while it still submits.
  const output =
    "--group_reporting=1 --clat_percentiles=0 --lat_percentiles=1 --percentile_list=50:99 --output-format=json";
  // The engine's own options are known only after it.
  return [
    "fio",
    "--name=bench",
    `--ioengine=${engine}`,
    place,
    ...flushes,
    ...[load, time, safety, output].join(" ").split(" "),
  ];
}

const latency = z.object({
  mean: z.number(),
  percentile: z.record(z.string(), z.number()).optional(),
});
const direction = z.object({
  total_ios: z.number(),
  iops: z.number(),
  bw_bytes: z.number(),
  lat_ns: latency,
});
const output = z.object({
  jobs: z.array(z.object({ error: z.number(), read: direction, write: direction })).min(1),
});

/** fio's NBD engine prints lines of its own before the JSON. */
export function parseFio(text: string): LoadResult {
  const parsed = output.safeParse(JSON.parse(text.slice(text.indexOf("{\n"))));
  const job = parsed.success ? parsed.data.jobs[0] : undefined;
  if (job === undefined) throw new BenchError("Cannot understand what fio printed.");
  if (job.error !== 0) throw new BenchError(`Cannot measure: because fio met error ${job.error}.`);
  const active = [job.read, job.write].filter(({ total_ios: count }) => count > 0);
  const sum = (one: (part: z.infer<typeof direction>) => number) =>
    active.reduce((total, part) => total + one(part), 0);
  const requestCount = sum((part) => part.total_ios);
  if (requestCount === 0) throw new BenchError("Cannot measure: because fio made no request.");
  const worst = (key: string) =>
    Math.max(...active.map((part) => part.lat_ns.percentile?.[key] ?? 0)) / 1000;
  return {
    requestCount,
    iops: sum((part) => part.iops),
    mibPerSecond: sum((part) => part.bw_bytes) / 2 ** 20,
    meanUs: sum((part) => part.lat_ns.mean * part.total_ios) / requestCount / 1000,
    p50Us: worst("50.000000"),
    p99Us: worst("99.000000"),
  };
}

export async function runFio(
  job: FioJob,
  target: FioTarget,
  sizeBytes: number,
  seconds: number,
  directory: string,
  scope: Scope,
): Promise<LoadResult> {
  const command = fioCommand(job, target, sizeBytes, seconds);
  return parseFio(await scope.run(command, { cwd: directory }));
}
