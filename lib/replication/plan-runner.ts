import type { Clock } from "../model/clock.js";
import { TidemarkError } from "../model/errors.js";
import {
  endedRun,
  isFinished,
  type PlanRun,
  type PlanStepReport,
  type ScriptOutcome,
  stepErrorOf,
  testIdsOf,
} from "../model/plan-run.js";
import type { PlanStep } from "../model/recovery-plan.js";
import { planEnvironment } from "./plan-environment.js";
import type { NotePlanRun, PlanPorts } from "./plan-ports.js";

export interface PlanRunnerOptions {
  readonly ports: PlanPorts;
  readonly clock: Clock;
  readonly note: NotePlanRun;
}

/**
 * Goes through one run of a recovery plan. Every step is noted durably before it begins
 * and when it has ended, and the points that it uses before they are used: whoever takes
 * the run up again after a crash repeats no step that has ended, and the one that was
 * under way with the same points.
 */
export class PlanRunner {
  readonly #options: PlanRunnerOptions;
  #run: PlanRun;

  constructor(run: PlanRun, options: PlanRunnerOptions) {
    this.#run = run;
    this.#options = options;
  }

  get run(): PlanRun {
    return this.#run;
  }

  /** Never rejects but for a note that fails. The signal's reason is the state in which an aborted run ends. */
  async go(signal: AbortSignal): Promise<void> {
    const { steps } = this.#run.plan;
    if (!(await this.#reopenTests())) return this.#end("failed");
    for (const [index, step] of steps.entries()) {
      if (isFinished(this.#report(index), step)) continue;
      if (signal.aborted) return this.#end(signal.reason as "stopped" | "interrupted");
      const isDone = await this.#perform(index, step, signal);
      if (signal.aborted && !isDone) return this.#end(signal.reason as "stopped" | "interrupted");
      if (!isDone && step.onFailure === "stop") return this.#end("failed");
    }
    const isFlawless = this.#run.steps.every(({ state }) => state !== "failed");
    return this.#end(isFlawless ? "completed" : "completed with failures");
  }

  async #perform(index: number, step: PlanStep, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#options;
    if (step.endTest === true && this.#run.kind === "real") {
      await this.#update(index, { state: "skipped" });
      return true;
    }
    const startedAtMs = clock.nowMs();
    await this.#update(index, { state: "running", startedAtMs, endedAtMs: null, error: null });
    try {
      await this.#do(index, step, signal);
      await this.#update(index, { state: "done", endedAtMs: clock.nowMs() });
      return true;
    } catch (thrown) {
      // The end of the run notes what is under way.
      if (signal.aborted) return false;
      const error = stepErrorOf(thrown);
      await this.#update(index, { state: "failed", endedAtMs: clock.nowMs(), error });
      return false;
    }
  }

  #do(index: number, step: PlanStep, signal: AbortSignal): Promise<void> {
    const { clock, ports } = this.#options;
    if (step.failover !== undefined) return this.#failOver(index, step.failover);
    if (step.script !== undefined) return this.#runScript(index, step, signal);
    if (step.delayMs !== undefined) return clock.sleep(step.delayMs, signal);
    return ports.endTests(testIdsOf(this.#run));
  }

  async #failOver(index: number, failover: NonNullable<PlanStep["failover"]>): Promise<void> {
    const { ports } = this.#options;
    const { kind } = this.#run;
    const noted = this.#report(index).chosen;
    const chosen = noted ?? (await ports.choose(failover, kind));
    await this.#update(index, { chosen });
    const vms = await ports.failOver(chosen, kind);
    await this.#update(index, { vms });
    const failed = vms.filter(({ error }) => error !== null);
    if (failed.length > 0) throw failedFor(failed, vms.length);
  }

  async #runScript(index: number, step: PlanStep, signal: AbortSignal): Promise<void> {
    const { script } = step;
    if (script === undefined) return;
    const { ports } = this.#options;
    await ports.checkScript(script);
    const environment = planEnvironment(this.#run, step.name);
    const outcome = await ports.runScript(script, environment, signal);
    await this.#update(index, { script: outcome });
    if (outcome.exitCode === 0 && !outcome.isTimedOut) return;
    throw scriptFailed(script.path, script.timeoutMs, outcome);
  }

  /** A test ends with the service, and what comes after the step that opened it needs it. */
  async #reopenTests(): Promise<boolean> {
    const { ports, clock } = this.#options;
    const { kind, plan, resumedAtMs } = this.#run;
    if (kind !== "test" || resumedAtMs.length === 0) return true;
    const ended = this.#run.steps.findLastIndex(
      ({ state }, index) => state === "done" && plan.steps[index]?.endTest === true,
    );
    await ports.endTests(testIdsOf(this.#run));
    for (const [index, step] of plan.steps.entries()) {
      const report = this.#report(index);
      if (index <= ended || report.chosen === null || !isFinished(report, step)) continue;
      try {
        await this.#update(index, { vms: await ports.failOver(report.chosen, kind) });
      } catch (thrown) {
        const error = stepErrorOf(thrown);
        await this.#update(index, { state: "failed", endedAtMs: clock.nowMs(), error });
        return false;
      }
    }
    return true;
  }

  #report(index: number): PlanStepReport {
    const report = this.#run.steps[index];
    if (report === undefined) throw new Error("a run without a report of each step");
    return report;
  }

  #update(index: number, change: Partial<PlanStepReport>): Promise<void> {
    const steps = this.#run.steps.map((report, at) =>
      at === index ? { ...report, ...change } : report,
    );
    return this.#note({ ...this.#run, steps });
  }

  #end(state: "completed" | "completed with failures" | "failed" | "stopped" | "interrupted") {
    return this.#note(endedRun(this.#run, state, this.#options.clock.nowMs()));
  }

  async #note(run: PlanRun): Promise<void> {
    await this.#options.note(run);
    this.#run = run;
  }
}

function failedFor(
  failed: readonly { readonly name: string; readonly error: { readonly message: string } | null }[],
  count: number,
): TidemarkError {
  const [first] = failed;
  const names = failed.map(({ name }) => name).join(", ");
  return new TidemarkError(
    "CONFLICT",
    `Cannot fail ${names} over (${failed.length} of ${count}): because ${first?.error?.message ?? ""}`,
    { hint: "The report has the reason for each; mend it, then resume the run." },
  );
}

function scriptFailed(
  path: string,
  timeoutMs: number,
  { exitCode, signal, isTimedOut }: ScriptOutcome,
): TidemarkError {
  if (isTimedOut) {
    return new TidemarkError(
      "TIMED_OUT",
      `Cannot finish ${path}: because it did not end within ${timeoutMs} ms, and was killed.`,
      { hint: "The report has what it wrote." },
    );
  }
  const how =
    exitCode === null
      ? `signal ${signal ?? "unknown"} ended it`
      : `it ended with status ${exitCode}`;
  return new TidemarkError("CONFLICT", `Cannot go on after ${path}: because ${how}.`, {
    hint: "The report has what it wrote.",
  });
}
