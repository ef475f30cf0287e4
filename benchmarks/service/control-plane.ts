/** How long the replica's API takes to answer while segments come in at full speed. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BenchContext, Measurement, Trial } from "../model.js";
import { rename } from "node:fs/promises";
import { writeRealFiles } from "../real-files.js";
import type { Scope } from "../scope.js";
import { HostPair } from "./host-pair.js";

const MIB = 2 ** 20;
const CASE = "the replica's API during ingest";
const PERIOD_MS = 5;

export function controlPlaneTrial(context: BenchContext): Trial {
  return { name: CASE, caseName: CASE, run: (scope) => measure(scope, context) };
}

async function measure(scope: Scope, context: BenchContext): Promise<Measurement[]> {
  const sizeBytes = context.sizing.isQuick ? 32 * MIB : 1024 * MIB;
  const pair = await HostPair.start(scope, context);
  for (let i = 0; i < 20; i += 1) await answerMs(pair);
  await pair.enable({ name: "ingest", sizeBytes, intervalMs: 60_000 }, async (path) => {
    await writeRealFiles(`${path}.content`, sizeBytes, scope.signal);
    await rename(`${path}.content`, path);
  });
  const times: number[] = [];
  let isDone = false;
  const copying = pair.firstPoint("ingest", scope.signal).finally(() => {
    isDone = true;
  });
  while (!isDone) {
    times.push(await answerMs(pair));
    await sleep(PERIOD_MS);
  }
  await copying;
  times.sort((a, b) => a - b);
  const p = (share: number) => times[Math.ceil(share * times.length) - 1] ?? 0;
  const values = { answerP50Ms: p(0.5), answerP99Ms: p(0.99) };
  return [{ caseName: CASE, subject: "tidemark", values }];
}

async function answerMs({ replica }: HostPair): Promise<number> {
  const startedAtMs = performance.now();
  await replica.api.call("groupList", {});
  return performance.now() - startedAtMs;
}
