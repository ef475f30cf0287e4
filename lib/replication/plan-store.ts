import type { PlanRun } from "../model/plan-run.js";
import type { RecoveryPlan } from "../model/recovery-plan.js";
import type { StateStore } from "../model/state-store.js";

const PLANS = "plan/";
const RUNS = "plan-run/";

/** Of each plan; older ones go with a new one. */
const KEPT_RUN_COUNT = 100;

/** Recovery plans and the reports of their runs, in the host's state store. */
export class PlanStore {
  readonly #store: StateStore;

  constructor(store: StateStore) {
    this.#store = store;
  }

  async plan(name: string): Promise<RecoveryPlan | null> {
    const document = await this.#store.get(PLANS + name);
    return document === null ? null : (document.value as RecoveryPlan);
  }

  /** By name. */
  async plans(): Promise<readonly RecoveryPlan[]> {
    return (await this.#store.list(PLANS)).map(({ value }) => value as RecoveryPlan);
  }

  async putPlan(plan: RecoveryPlan): Promise<void> {
    await this.#store.put(PLANS + plan.name, plan);
  }

  /** Its runs stay. */
  async removePlan(name: string): Promise<void> {
    await this.#store.delete(PLANS + name);
  }

  /** Oldest first; null: of all plans, by plan. */
  async runs(planName: string | null): Promise<readonly PlanRun[]> {
    const prefix = planName === null ? RUNS : `${RUNS}${planName}/`;
    return (await this.#store.list(prefix)).map(({ value }) => value as PlanRun);
  }

  async putRun(run: PlanRun): Promise<void> {
    await this.#store.put(keyOf(run), run);
  }

  async forgetOldRuns(planName: string): Promise<void> {
    const runs = await this.runs(planName);
    for (const run of runs.slice(0, -KEPT_RUN_COUNT)) await this.#store.delete(keyOf(run));
  }
}

/** In the order of their beginnings. */
function keyOf({ plan, startedAtMs, runId }: PlanRun): string {
  return `${RUNS}${plan.name}/${String(startedAtMs).padStart(16, "0")}-${runId}`;
}
