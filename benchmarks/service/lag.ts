/** How old the replica's state is while a database writes, replicated every second. */
import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import type { CycleReport } from "#lib/model/relationship.js";
import type { BenchContext, Measurement, Trial } from "../model.js";
import type { Scope } from "../scope.js";
import { HostPair } from "./host-pair.js";

const MIB = 2 ** 20;
const CASE = "8 KiB random writes with sync, 1 s cycles";
const BLOCK_BYTES = 8192;
const DISK_BYTES = 512 * MIB;
const SAMPLE_MS = 10;

export function lagTrial(context: BenchContext): Trial {
  return { name: CASE, caseName: CASE, run: (scope) => measure(scope, context) };
}

async function measure(scope: Scope, context: BenchContext): Promise<Measurement[]> {
  const seconds = context.sizing.isQuick ? 4 : 30;
  const pair = await HostPair.start(scope, context);
  const { uri } = await pair.enable({ name: "db", sizeBytes: DISK_BYTES, intervalMs: 1000 });
  await pair.firstPoint("db", scope.signal);
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, scope.signal]);
  const reports: CycleReport[] = [];
  const collecting = (async () => {
    for await (const report of pair.cycles("db", signal)) reports.push(report);
  })();
  const writing = writeAndSync(uri, signal);
  await sleep(seconds * 1000);
  stop.abort();
  const writes = await writing;
  await collecting;
  const lags = lagsOverTime(reports);
  const p = (share: number) => lags[Math.ceil(share * lags.length) - 1] ?? 0;
  const values = { lagP50Ms: p(0.5), lagP99Ms: p(0.99), writesPerSecond: writes / seconds };
  return [{ caseName: CASE, subject: "tidemark", values }];
}

/** One after the other, each made durable, as a log does; answers how many. */
async function writeAndSync(uri: string, signal: AbortSignal): Promise<number> {
  const client = await NbdClient.connect(uri);
  const block = Buffer.alloc(BLOCK_BYTES);
  let state = 12_345;
  let writes = 0;
  for (; !signal.aborted; writes += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    block.writeUInt32LE(state, (state >>> 8) % (BLOCK_BYTES - 4));
    await client.write((state % (DISK_BYTES / BLOCK_BYTES)) * BLOCK_BYTES, block);
    await client.flush();
  }
  client.close();
  return writes;
}

/** The age of the newest acknowledged state at each instant between the first commit and the last. */
function lagsOverTime(reports: readonly CycleReport[]): number[] {
  const commits = reports.map(({ startedAtMs, durationMs, lagMs }) => {
    const atMs = startedAtMs + durationMs;
    return { atMs, takenAtMs: atMs - lagMs };
  });
  const lags: number[] = [];
  for (const [index, { atMs, takenAtMs }] of commits.entries()) {
    const untilMs = commits[index + 1]?.atMs ?? atMs;
    for (let nowMs = atMs; nowMs < untilMs; nowMs += SAMPLE_MS) lags.push(nowMs - takenAtMs);
  }
  return lags.sort((a, b) => a - b);
}
