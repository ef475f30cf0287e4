import { randomUUID } from "node:crypto";
import type { Clock } from "../model/clock.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import {
  endedRun,
  newPlanRun,
  type PlanRun,
  type PlanRunKind,
  type PlanRunState,
  resumedRun,
  testIdsOf,
} from "../model/plan-run.js";
import type { RecoveryPlan } from "../model/recovery-plan.js";
import type { StateStore } from "../model/state-store.js";
import * as refusals from "./plan-refusals.js";
import type { PlanPorts } from "./plan-ports.js";
import { PlanRunner } from "./plan-runner.js";
import { PlanStore } from "./plan-store.js";

export interface RecoveryPlansOptions {
  readonly store: StateStore;
  readonly ports: PlanPorts;
  readonly clock: Clock;
  readonly onWarning: (message: string) => void;
}

/** One that is "running" and that nobody runs is one whose report could not be written. */
const RESUMABLE = new Set<PlanRunState>(["running", "interrupted", "failed", "stopped"]);

interface ActiveRun {
  readonly runner: PlanRunner;
  readonly stopping: AbortController;
  readonly ended: Promise<void>;
}

/**
 * A host's recovery plans and their runs, one of each plan at a time. A run goes on by
 * itself; what the death of the service ends is "interrupted" from the next start on.
 */
export class RecoveryPlans implements AsyncDisposable {
  readonly #options: RecoveryPlansOptions;
  readonly #store: PlanStore;
  readonly #active = new Map<string, ActiveRun>();
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(options: RecoveryPlansOptions) {
    this.#options = options;
    this.#store = new PlanStore(options.store);
  }

  static async open(options: RecoveryPlansOptions): Promise<RecoveryPlans> {
    const plans = new RecoveryPlans(options);
    for (const run of await plans.#store.runs(null)) {
      if (run.state !== "running") continue;
      await plans.#store.putRun(endedRun(run, "interrupted", options.clock.nowMs()));
      options.onWarning(
        `A run of recovery plan ${run.plan.name} was interrupted: \`tidemark plan report ${run.plan.name}\` says in which step.`,
      );
    }
    return plans;
  }

  /** ALREADY_EXISTS, unless it `replaces`. A run that is under way goes on with what it began with. */
  add(plan: RecoveryPlan, replaces: boolean): Promise<void> {
    return this.#inTurn(async () => {
      if (!replaces && (await this.#store.plan(plan.name)) !== null) {
        throw refusals.isThereAlready(plan.name);
      }
      await this.#store.putPlan(plan);
    });
  }

  list(): Promise<readonly RecoveryPlan[]> {
    return this.#store.plans();
  }

  /** NOT_FOUND. */
  async plan(name: string): Promise<RecoveryPlan> {
    const plan = await this.#store.plan(name);
    if (plan === null) throw refusals.noSuchPlan(name);
    return plan;
  }

  /** The reports of its runs stay. NOT_FOUND; CONFLICT while it runs. */
  remove(name: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.plan(name);
      this.#requireIdle(name, "remove");
      await this.#store.removePlan(name);
    });
  }

  /** Answers when the first step may begin; what speaks against the run is found before that. */
  start(name: string, kind: PlanRunKind): Promise<PlanRun> {
    return this.#inTurn(async () => {
      const plan = await this.plan(name);
      this.#requireIdle(name, "run");
      if (kind === "test" && (await this.#openTests(name)).length > 0) {
        throw refusals.testsAreOpen(name);
      }
      await this.#requireReady(plan, kind);
      const run = newPlanRun(plan, kind, randomUUID(), this.#options.clock.nowMs());
      await this.#store.forgetOldRuns(name);
      return this.#go(run);
    });
  }

  /** Goes on with the last run, which did not come to its end; no finished step is repeated. */
  resume(name: string): Promise<PlanRun> {
    return this.#inTurn(async () => {
      this.#requireIdle(name, "resume");
      const last = (await this.runs(name)).at(-1);
      if (last === undefined || !RESUMABLE.has(last.state)) {
        throw refusals.nothingToResume(name, last);
      }
      return this.#go(resumedRun(last, this.#options.clock.nowMs()));
    });
  }

  /** What is under way is ended, as far as it can be; answers when it has. CONFLICT when nothing is. */
  async stop(name: string): Promise<PlanRun> {
    const active = this.#active.get(name);
    if (active === undefined) throw refusals.notRunning(name);
    active.stopping.abort("stopped");
    await active.ended;
    return active.runner.run;
  }

  /** Closes what test runs of the plan have opened; answers how many that were. */
  endTests(name: string): Promise<number> {
    return this.#inTurn(async () => {
      this.#requireIdle(name, "end the test of");
      await this.runs(name);
      const testIds = await this.#openTests(name);
      await this.#options.ports.endTests(testIds);
      return testIds.length;
    });
  }

  /** Oldest first; also of a plan that is removed. NOT_FOUND when there never was one. */
  async runs(name: string): Promise<readonly PlanRun[]> {
    const runs = await this.#store.runs(name);
    if (runs.length === 0) await this.plan(name);
    return runs;
  }

  /** By its id, or the last one. NOT_FOUND. */
  async run(name: string, runId: string | null): Promise<PlanRun> {
    const runs = await this.runs(name);
    const found = runId === null ? runs.at(-1) : runs.find((run) => run.runId === runId);
    if (found === undefined) throw refusals.noSuchRun(name, runId);
    return found;
  }

  /** Interrupts what is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#last;
    for (const { stopping } of this.#active.values()) stopping.abort("interrupted");
    await Promise.all([...this.#active.values()].map(({ ended }) => ended));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #go(run: PlanRun): Promise<PlanRun> {
    const { ports, clock, onWarning } = this.#options;
    const { name } = run.plan;
    await this.#store.putRun(run);
    const note = (noted: PlanRun) => this.#store.putRun(noted);
    const runner = new PlanRunner(run, { ports, clock, note });
    const stopping = new AbortController();
    const ended = runner
      .go(stopping.signal)
      .catch((thrown: unknown) =>
        onWarning(
          `Cannot go on with plan ${name}: because ${toTidemarkError(thrown).message} Its report ends there; resume it when that is mended.`,
        ),
      )
      .finally(() => this.#active.delete(name));
    this.#active.set(name, { runner, stopping, ended });
    return run;
  }

  /** Where a failure would stop the run, it is found before anything is done. */
  async #requireReady({ steps }: RecoveryPlan, kind: PlanRunKind): Promise<void> {
    const { ports } = this.#options;
    for (const { name, script, failover, onFailure } of steps) {
      try {
        if (script !== undefined) await ports.checkScript(script);
        if (failover !== undefined && onFailure === "stop") await ports.choose(failover, kind);
      } catch (thrown) {
        throw refusals.stepNotReady(name, toTidemarkError(thrown));
      }
    }
  }

  async #openTests(name: string): Promise<readonly string[]> {
    const runs = await this.#store.runs(name);
    return this.#options.ports.openTests(runs.flatMap(testIdsOf));
  }

  #requireIdle(name: string, what: string): void {
    if (this.#active.has(name)) throw refusals.isRunning(name, what);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      if (!this.#isClosed) return work();
      throw new TidemarkError("CLOSED", "Cannot do that: because the service is ending.");
    });
    this.#last = result.catch(() => undefined);
    return result;
  }
}
