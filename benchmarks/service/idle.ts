/** What replication costs while nothing is written: CPU time and memory. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { BenchContext, Measurement, Trial } from "../model.js";
import type { Scope } from "../scope.js";
import { HostPair } from "./host-pair.js";

const MIB = 2 ** 20;
const MANY = 200;

export function idleTrials(context: BenchContext): Trial[] {
  const count = context.sizing.isQuick ? 10 : MANY;
  const name = `${count} relationships at 5 s`;
  return [
    { name: "nothing changed", caseName: "nothing changed", run: (scope) => one(scope, context) },
    { name, caseName: name, run: (scope) => many(scope, context, count, name) },
  ];
}

/** CPU time of both services beside what they use with the VM suspended, for each cycle. */
async function one(scope: Scope, context: BenchContext): Promise<Measurement[]> {
  const seconds = context.sizing.isQuick ? 3 : 30;
  const pair = await HostPair.start(scope, context);
  await pair.enable({ name: "idle", sizeBytes: 64 * MIB, intervalMs: 1000 });
  await pair.firstPoint("idle", scope.signal);
  await sleep(2000);
  const before = await pair.primary.api.call("vmStatus", {}, { vm: "idle" });
  const cycling = await cpuWhile(pair, seconds, scope);
  const after = await pair.primary.api.call("vmStatus", {}, { vm: "idle" });
  await pair.primary.api.call("vmSuspend", {}, { vm: "idle" });
  const suspended = await cpuWhile(pair, seconds, scope);
  const cycles = (after.relationship?.cycleCount ?? 0) - (before.relationship?.cycleCount ?? 0);
  const cpuMsPerCycle = ((cycling - suspended) * 1000) / cycles;
  const values = { cpuMsPerCycle, cycles };
  return [{ caseName: "nothing changed", subject: "tidemark", values }];
}

async function many(
  scope: Scope,
  context: BenchContext,
  count: number,
  caseName: string,
): Promise<Measurement[]> {
  const seconds = context.sizing.isQuick ? 3 : 30;
  const pair = await HostPair.start(scope, context);
  const names = Array.from({ length: count }, (_, index) => `vm${index}`);
  await pair.enable({ name: "first", sizeBytes: 16 * MIB, intervalMs: 5000 });
  await pair.firstPoint("first", scope.signal);
  const idleMib = await residentMib(pair.primary.processId);
  for (const name of names) await pair.enable({ name, sizeBytes: 16 * MIB, intervalMs: 5000 });
  for (const name of names) await pair.firstPoint(name, scope.signal);
  await sleep(5000);
  const cores = (await cpuWhile(pair, seconds, scope)) / seconds;
  const perRelationshipMib = ((await residentMib(pair.primary.processId)) - idleMib) / count;
  const values = { cores, idleMib, perRelationshipMib };
  return [{ caseName, subject: "tidemark", values }];
}

async function cpuWhile(pair: HostPair, seconds: number, { signal }: Scope): Promise<number> {
  const before = await pair.cpuSeconds();
  await sleep(seconds * 1000, undefined, { signal });
  return (await pair.cpuSeconds()) - before;
}

async function residentMib(processId: number): Promise<number> {
  const status = await readFile(`/proc/${processId}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
}
