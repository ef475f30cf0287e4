/** Recovery plans, as administrators write them. docs/recovery-plans.md explains each member. */
import { z } from "zod";
import { PLAN_FORMAT_VERSION } from "../model/recovery-plan.js";
import { plainName } from "./schemas.js";

const MOST_STEPS = 100;
const LONGEST_DELAY_MS = 86_400_000;
const NO_NUL = /^[^\0]*$/;

const planPoint = z
  .strictObject({
    /** The newest that was taken then or before. */
    atOrBefore: z.iso.datetime({ offset: true }).optional(),
    /** Of a group: that cut. */
    cutNumber: z.number().int().nonnegative().optional(),
  })
  .refine(
    ({ atOrBefore, cutNumber }) => (atOrBefore === undefined) !== (cutNumber === undefined),
    "a point is named by atOrBefore or by cutNumber; without it, it is the newest",
  );

const planFailover = z
  .strictObject({
    /** Names or ids. */
    vms: z.array(plainName).min(1).max(1000).optional(),
    group: plainName.optional(),
    point: planPoint.optional(),
  })
  .refine(
    ({ vms, group }) => (vms === undefined) !== (group === undefined),
    "a failover is of vms or of a group",
  )
  .refine(
    ({ vms, point }) => vms === undefined || point?.cutNumber === undefined,
    "only a group has cuts",
  )
  .refine(({ vms = [] }) => new Set(vms).size === vms.length, "a VM is named twice");

const planScript = z.strictObject({
  /** On the replica's host. */
  path: z.string().startsWith("/", "a script's path is absolute").max(4096).regex(NO_NUL),
  args: z.array(z.string().max(4096).regex(NO_NUL)).max(100).default([]),
  /** After it, it is killed with all that it has started. */
  timeoutMs: z.number().int().min(1).max(LONGEST_DELAY_MS).default(60_000),
});

const planStep = z
  .strictObject({
    name: plainName,
    failover: planFailover.optional(),
    delayMs: z.number().int().min(0).max(LONGEST_DELAY_MS).optional(),
    script: planScript.optional(),
    /** A test run closes here what it has opened; a real run passes over it. */
    endTest: z.literal(true).optional(),
    onFailure: z.enum(["stop", "continue"]).default("stop"),
  })
  .refine(
    ({ failover, delayMs, script, endTest }) =>
      [failover, delayMs, script, endTest].filter((one) => one !== undefined).length === 1,
    "a step is one of failover, delayMs, script and endTest",
  );

export const recoveryPlan = z.strictObject({
  version: z.literal(PLAN_FORMAT_VERSION),
  name: plainName,
  description: z.string().max(1000).optional(),
  steps: z
    .array(planStep)
    .min(1)
    .max(MOST_STEPS)
    .refine(
      (steps) => new Set(steps.map(({ name }) => name)).size === steps.length,
      "two steps have one name",
    ),
});

export const planAddRequest = z.strictObject({
  plan: recoveryPlan,
  /** Of the same name. */
  replaces: z.boolean().default(false),
});

export type RecoveryPlanBody = z.infer<typeof recoveryPlan>;
