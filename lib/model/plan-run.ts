import { toTidemarkError } from "./errors.js";
import type { FailoverLoss } from "./failover-loss.js";
import type { PlanStep, RecoveryPlan } from "./recovery-plan.js";

export const PLAN_RUN_KINDS = ["test", "real"] as const;
export type PlanRunKind = (typeof PLAN_RUN_KINDS)[number];

export const PLAN_RUN_STATES = [
  "running",
  "completed",
  /** To its end, and a step that may fail did. */
  "completed with failures",
  /** It ended with a step that must not fail. */
  "failed",
  /** By order. */
  "stopped",
  /** By the end of the service, or its death. */
  "interrupted",
] as const;
export type PlanRunState = (typeof PLAN_RUN_STATES)[number];

export const PLAN_STEP_STATES = [
  "waiting",
  "running",
  "done",
  "failed",
  /** It has no part in a run of this kind. */
  "skipped",
  /** It was under way when the run was stopped or interrupted. */
  "interrupted",
] as const;

export interface StepError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly retryable: boolean;
}

/** Which point of a VM a step uses: durable before it is used, so that a resumed run uses the same. */
export interface ChosenPoint {
  readonly vmId: string;
  readonly name: string;
  readonly pointId: string;
  readonly pointSequence: number;
  readonly takenAtMs: number;
  /** Of a test run: what a failover at that time would have lost. */
  readonly loss: FailoverLoss;
}

export interface ChosenPoints {
  /** Null: VMs that were named one by one. */
  readonly cut: {
    readonly groupId: string;
    readonly name: string;
    readonly cutNumber: number;
  } | null;
  readonly vms: readonly ChosenPoint[];
}

/** What came of a VM in a step. */
export interface PlanVmOutcome {
  readonly vmId: string;
  readonly name: string;
  /** Of a test run: what ends it. */
  readonly testId: string | null;
  readonly disks: readonly { readonly name: string; readonly uri: string }[];
  readonly error: StepError | null;
}

export interface ScriptOutcome {
  /** Null: a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly isTimedOut: boolean;
  /** The end of what it wrote to its standard output and error. */
  readonly output: string;
  readonly isOutputCut: boolean;
}

export interface PlanStepReport {
  readonly name: string;
  readonly state: (typeof PLAN_STEP_STATES)[number];
  readonly startedAtMs: number | null;
  readonly endedAtMs: number | null;
  readonly error: StepError | null;
  readonly chosen: ChosenPoints | null;
  readonly vms: readonly PlanVmOutcome[];
  readonly script: ScriptOutcome | null;
}

/** One run of a plan: its report while it runs, and afterwards. */
export interface PlanRun {
  readonly runId: string;
  /** As it was when the run began. */
  readonly plan: RecoveryPlan;
  readonly kind: PlanRunKind;
  readonly state: PlanRunState;
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly resumedAtMs: readonly number[];
  /** One for each step of the plan. */
  readonly steps: readonly PlanStepReport[];
}

export function newPlanRun(
  plan: RecoveryPlan,
  kind: PlanRunKind,
  runId: string,
  startedAtMs: number,
): PlanRun {
  const steps = plan.steps.map(({ name }) => waitingStep(name));
  return {
    runId,
    plan,
    kind,
    state: "running",
    startedAtMs,
    endedAtMs: null,
    resumedAtMs: [],
    steps,
  };
}

function waitingStep(name: string): PlanStepReport {
  const nothing = { startedAtMs: null, endedAtMs: null, error: null, chosen: null, script: null };
  return { name, state: "waiting", ...nothing, vms: [] };
}

/** A resumed run does not come back to it. */
export function isFinished({ state }: PlanStepReport, { onFailure }: PlanStep): boolean {
  return (
    state === "done" || state === "skipped" || (state === "failed" && onFailure === "continue")
  );
}

/** What has not come to its end is to be done again, with what was chosen for it. */
export function resumedRun(run: PlanRun, resumedAtMs: number): PlanRun {
  const steps = run.steps.map((report, index): PlanStepReport => {
    const step = run.plan.steps[index];
    const isOver = step !== undefined && isFinished(report, step);
    return isOver ? report : { ...report, state: "waiting" };
  });
  const resumed = [...run.resumedAtMs, resumedAtMs];
  return { ...run, state: "running", endedAtMs: null, resumedAtMs: resumed, steps };
}

/** It ends with `state`; the step that is under way with it. */
export function endedRun(run: PlanRun, state: PlanRunState, endedAtMs: number): PlanRun {
  const steps = run.steps.map((step) =>
    step.state === "running" ? { ...step, state: "interrupted" as const, endedAtMs } : step,
  );
  return { ...run, state, endedAtMs, steps };
}

/** The tests that it has opened, as far as they are noted. */
export function testIdsOf({ steps }: PlanRun): readonly string[] {
  const ids = steps.flatMap(({ vms }) => vms.map(({ testId }) => testId));
  return [...new Set(ids.filter((id) => id !== null))];
}

export function stepErrorOf(thrown: unknown): StepError {
  const { code, message, hint, retryable } = toTidemarkError(thrown);
  return { code, message, hint: hint ?? null, retryable };
}
