import { requireSafeScript } from "../hypervisor/require-safe-script.js";
import type { StateStore } from "../model/state-store.js";
import type { TestFailovers } from "../replica/test-failovers.js";
import type { PlanPorts } from "../replication/plan-ports.js";
import { RecoveryPlans } from "../replication/recovery-plans.js";
import type { StatisticsRecorder } from "../replication/statistics-recorder.js";
import { systemClock } from "../replication/system-clock.js";
import { GroupFailovers } from "./group-failovers.js";
import type { GroupParts } from "./group-members.js";
import type { HostSettings } from "./host-settings.js";
import { choosePlanPoints } from "./plans/choose-plan-points.js";
import { failPlanVmsOver, openPlanTests, type PlanFailoverParts } from "./plans/plan-failovers.js";
import { runScript } from "./plans/run-script.js";

/** Orders that fail more than one VM over. */
export interface FailoverOrders {
  readonly groupFailovers: GroupFailovers;
  readonly plans: RecoveryPlans;
}

export interface FailoverOrdersOptions extends GroupParts {
  readonly store: StateStore;
  readonly testFailovers: TestFailovers;
  readonly settings: HostSettings;
  readonly statistics: StatisticsRecorder;
  readonly log: (message: string) => void;
  /** Closes it when the host ends. */
  readonly keep: <T extends { close(): Promise<void> }>(opened: T) => T;
}

export async function openFailoverOrders(options: FailoverOrdersOptions): Promise<FailoverOrders> {
  const { store, settings, statistics, log, keep } = options;
  const groupFailovers = new GroupFailovers(options, systemClock);
  const ports = planPorts({
    ...options,
    groupFailovers,
    testTerms: () => settings.values.testFailovers,
    onTest: (vmId) => statistics.noteTestFailover(vmId),
  });
  const plans = await RecoveryPlans.open({ store, ports, clock: systemClock, onWarning: log });
  return { groupFailovers, plans: keep(plans) };
}

function planPorts(parts: PlanFailoverParts): PlanPorts {
  const { testFailovers } = parts;
  const openTests = (ids: readonly string[]) => ids.filter((id) => testFailovers.has(id));
  return {
    choose: (failover, kind) => choosePlanPoints(parts, failover, kind, systemClock.nowMs()),
    failOver: (chosen, kind) =>
      kind === "test" ? openPlanTests(parts, chosen) : failPlanVmsOver(parts, chosen),
    openTests,
    endTests: async (ids) => {
      for (const id of openTests(ids)) await testFailovers.end(id);
    },
    checkScript: ({ path }) => requireSafeScript(path),
    runScript,
  };
}
