import type { PlanRunBody } from "../../management/plan-run-schemas.js";
import type { RecoveryPlanBody } from "../../management/plan-schemas.js";
import type { PLAN_ROUTES } from "../../management/routes/plan-routes.js";
import type { PlanRun } from "../../model/plan-run.js";
import type { RecoveryPlan } from "../../model/recovery-plan.js";
import type { HostParts } from "../host-parts.js";
import type { TopicHandlers } from "./topic-handlers.js";

/** The name by which the last run goes in a path. */
const LAST = "last";

export function planHandlers({ plans }: HostParts): TopicHandlers<typeof PLAN_ROUTES> {
  return {
    planAdd: async ({ plan, replaces }) => {
      await plans.add(plan, replaces);
      return plan;
    },
    planList: async () => (await plans.list()).map(planBody),
    planShow: async (_body, { plan }) => planBody(await plans.plan(plan ?? "")),
    planRemove: async (_body, { plan }) => {
      await plans.remove(plan ?? "");
      return {};
    },
    planRun: async (request, { plan }) =>
      runBody(
        await ("resumes" in request
          ? plans.resume(plan ?? "")
          : plans.start(plan ?? "", request.kind)),
      ),
    planStop: async (_body, { plan }) => runBody(await plans.stop(plan ?? "")),
    planEndTest: async (_body, { plan }) => ({ endedTestCount: await plans.endTests(plan ?? "") }),
    planRunList: async (_body, { plan }) => (await plans.runs(plan ?? "")).map(runBody),
    planReport: async (_body, { plan, run }) =>
      runBody(await plans.run(plan ?? "", run === undefined || run === LAST ? null : run)),
  };
}

function planBody({ steps, ...plan }: RecoveryPlan): RecoveryPlanBody {
  return {
    ...plan,
    steps: steps.map(({ failover, script, ...step }) => ({
      ...step,
      ...(failover === undefined ? {} : { failover: { ...failover, vms: failover.vms?.slice() } }),
      ...(script === undefined ? {} : { script: { ...script, args: [...script.args] } }),
    })),
  };
}

function runBody(run: PlanRun): PlanRunBody {
  return { ...run, plan: planBody(run.plan) };
}
