import { availableParallelism } from "node:os";
import { BenchError } from "./bench-error.js";
import { machineTime, othersCpuPercent } from "./cpu-time.js";
import type { BenchContext, Derived, Plan, Row, Trial, Workload } from "./model.js";
import { Scope } from "./scope.js";
import { type Sample, toRows } from "./statistics.js";

export interface WorkloadResult {
  readonly rows: readonly Row[];
  readonly derived: readonly Derived[];
  readonly skipped: readonly string[];
  readonly failed: readonly string[];
}

export type Progress = (text: string) => void;

/** Runs a workload's trials one at a time. A trial that fails costs its row only. */
export async function runWorkload(
  workload: Workload,
  context: BenchContext,
  progress: Progress,
): Promise<WorkloadResult> {
  const plan = await workload.plan(context);
  const samples: Sample[] = [];
  const failed: string[] = [];
  let doneCount = 0;
  const trialCount = plan.rounds * plan.groups.flat().length;
  for (const trial of inOrder(plan)) {
    progress(`${workload.name} ${doneCount}/${trialCount} ${trial.name}`);
    try {
      samples.push(...(await runTrial(trial, context.scope.signal)));
    } catch (thrown) {
      context.scope.signal.throwIfAborted();
      if (!(thrown instanceof Error)) throw thrown;
      const text = thrown instanceof BenchError ? thrown.message : (thrown.stack ?? thrown.message);
      failed.push(`${workload.name}: ${trial.name}: ${text}`);
    }
    doneCount += 1;
  }
  const rows = toRows(workload.name, samples);
  return { rows, derived: workload.derive?.(rows) ?? [], skipped: plan.skipped, failed };
}

/** Group after group; within one, round after round, each round beginning with another subject. */
export function* inOrder(plan: Pick<Plan, "groups" | "rounds">): Generator<Trial> {
  for (const group of plan.groups) {
    for (let round = 0; round < plan.rounds; round += 1) {
      const first = group.length === 0 ? 0 : round % group.length;
      yield* [...group.slice(first), ...group.slice(0, first)];
    }
  }
}

/** Everything that the trial started has ended before the CPU time is counted. */
async function runTrial(trial: Trial, signal: AbortSignal): Promise<Sample[]> {
  const scope = new Scope(signal);
  const before = await machineTime();
  const measurements = await trial.run(scope).finally(() => scope.close());
  const othersPercent = othersCpuPercent(before, await machineTime(), availableParallelism());
  return measurements.map((measurement) => ({ measurement, othersCpuPercent: othersPercent }));
}
