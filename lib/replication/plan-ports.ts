import type {
  ChosenPoints,
  PlanRun,
  PlanRunKind,
  PlanVmOutcome,
  ScriptOutcome,
} from "../model/plan-run.js";
import type { PlanFailover, PlanScript } from "../model/recovery-plan.js";

/** What a plan's run does to the world; the service does it to VMs, tests keep a list. */
export interface PlanPorts {
  /** Changes nothing. Throws why there is no such point. */
  choose(failover: PlanFailover, kind: PlanRunKind): Promise<ChosenPoints>;

  /** Each VM with its outcome. A real one may be repeated: what is done for a VM stays as it is. */
  failOver(chosen: ChosenPoints, kind: PlanRunKind): Promise<readonly PlanVmOutcome[]>;

  /** Which of them are open still. */
  openTests(testIds: readonly string[]): readonly string[];

  /** Those that are not open any more have ended already. */
  endTests(testIds: readonly string[]): Promise<void>;

  /** Throws why it may not be run. */
  checkScript(script: PlanScript): Promise<void>;

  /** Ends at its time-out or when the signal aborts, with all that it has started. */
  runScript(
    script: PlanScript,
    environment: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<ScriptOutcome>;
}

/** Durable when it resolves. */
export type NotePlanRun = (run: PlanRun) => Promise<void>;
