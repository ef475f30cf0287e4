import { planAddRequest, recoveryPlan } from "../plan-schemas.js";
import { endedTests, planRun, planRunRequest } from "../plan-run-schemas.js";
import { nothing, route } from "./route.js";

export const PLAN_ROUTES = {
  planAdd: route("POST", "/plans", planAddRequest, recoveryPlan, "Keep a recovery plan here"),
  planList: route(
    "GET",
    "/plans",
    nothing,
    recoveryPlan.array(),
    "The recovery plans of this host",
  ),
  planShow: route("GET", "/plans/:plan", nothing, recoveryPlan, "A recovery plan"),
  planRemove: route(
    "DELETE",
    "/plans/:plan",
    nothing,
    nothing,
    "Forget a recovery plan; the reports of its runs stay",
  ),
  planRun: route(
    "POST",
    "/plans/:plan/runs",
    planRunRequest,
    planRun,
    "Begin a test run or a real run of a plan, or go on with the last one",
  ),
  planStop: route(
    "POST",
    "/plans/:plan/stop",
    nothing,
    planRun,
    "End the run of a plan that is under way",
  ),
  planEndTest: route(
    "POST",
    "/plans/:plan/end-test",
    nothing,
    endedTests,
    "Close the test failovers that test runs of a plan have opened",
  ),
  planRunList: route(
    "GET",
    "/plans/:plan/runs",
    nothing,
    planRun.array(),
    "The reports of a plan's runs, oldest first",
  ),
  planReport: route(
    "GET",
    "/plans/:plan/runs/:run",
    nothing,
    planRun,
    "The report of a run, by its id, or of the last",
  ),
} as const;
