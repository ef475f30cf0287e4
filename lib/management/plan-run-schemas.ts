/** Runs of recovery plans, and their reports. */
import { z } from "zod";
import { PLAN_RUN_KINDS, PLAN_RUN_STATES, PLAN_STEP_STATES } from "../model/plan-run.js";
import { failoverLoss } from "./group-failover-schemas.js";
import { recoveryPlan } from "./plan-schemas.js";
import { problem } from "./schemas.js";

const time = z.number();

/** Either a new run, or the last one goes on. */
export const planRunRequest = z.union([
  z.strictObject({ kind: z.enum(PLAN_RUN_KINDS) }),
  z.strictObject({ resumes: z.literal(true) }),
]);

const chosenPoint = z.object({
  vmId: z.uuid(),
  name: z.string(),
  pointId: z.uuid(),
  pointSequence: z.number().int(),
  takenAtMs: time,
  /** Of a test run: what a failover would have lost then. */
  loss: failoverLoss,
});

const planVmOutcome = z.object({
  vmId: z.uuid(),
  name: z.string(),
  /** Of a test run: what ends it. */
  testId: z.uuid().nullable(),
  disks: z.array(z.object({ name: z.string(), uri: z.string() })).readonly(),
  error: problem.nullable(),
});

const scriptOutcome = z.object({
  /** Null: a signal ended it. */
  exitCode: z.number().int().nullable(),
  signal: z.string().nullable(),
  isTimedOut: z.boolean(),
  /** The end of it. */
  output: z.string(),
  isOutputCut: z.boolean(),
});

const planStepReport = z.object({
  name: z.string(),
  state: z.enum(PLAN_STEP_STATES),
  startedAtMs: time.nullable(),
  endedAtMs: time.nullable(),
  error: problem.nullable(),
  /** Before it is used. */
  chosen: z
    .object({
      cut: z
        .object({ groupId: z.uuid(), name: z.string(), cutNumber: z.number().int() })
        .nullable(),
      vms: z.array(chosenPoint).readonly(),
    })
    .nullable(),
  vms: z.array(planVmOutcome).readonly(),
  script: scriptOutcome.nullable(),
});

export const planRun = z.object({
  runId: z.uuid(),
  /** As it was when the run began. */
  plan: recoveryPlan,
  kind: z.enum(PLAN_RUN_KINDS),
  state: z.enum(PLAN_RUN_STATES),
  startedAtMs: time,
  endedAtMs: time.nullable(),
  resumedAtMs: z.array(time).readonly(),
  steps: z.array(planStepReport).readonly(),
});

export const endedTests = z.object({ endedTestCount: z.number().int().nonnegative() });

export type PlanRunBody = z.infer<typeof planRun>;
export type PlanStepReportBody = z.infer<typeof planStepReport>;
