import type {
  ApplicationConsistencyStatus,
  Health,
  RelationshipState,
} from "../model/relationship.js";
import type { MonitoredCycles } from "./cycle-monitor.js";

export interface HealthFacts {
  readonly state: RelationshipState;
  readonly isEnding?: boolean;
  readonly errorMessage: string | null;
  readonly failuresInARow: number;
  readonly lagMs: number | null;
  readonly intervalMs: number;
  readonly suspectBytes: number;
  /** What the state waits for; null: an administrator. */
  readonly waitsUntilMs: number | null;
  readonly cycles: MonitoredCycles;
  /** Set when the gate's time box grew: how long it is now. */
  readonly grownDrainLimitMs: number | null;
  readonly applications: ApplicationConsistencyStatus | null;
  /** Why what the guest writes is not tracked. Default: it is. */
  readonly untrackedReason?: string | undefined;
}

interface Finding {
  readonly health: Exclude<Health, "normal">;
  readonly reason: string;
}

const LAG_WARNING_INTERVALS = 3;
const LAG_CRITICAL_INTERVALS = 12;
/** Of long intervals, fewer may pass. */
const LAG_WARNING_MS = 3_600_000;
const FAILURES_CRITICAL = 5;
const MISSED_SHARE_WARNING = 0.2;
/** Fewer cycles say nothing about a share. */
const FEWEST_CYCLES = 10;

const RULES: readonly ((facts: HealthFacts) => Finding | null)[] = [
  judgeState,
  ({ untrackedReason }) => (untrackedReason === undefined ? null : critical(untrackedReason)),
  judgeFailures,
  judgeLag,
  judgeMissedCycles,
  judgeThaw,
  judgeFreeze,
  ({ grownDrainLimitMs }) =>
    grownDrainLimitMs === null
      ? null
      : warning(`Slow storage: checkpoints may hold writes for ${grownDrainLimitMs} ms.`),
];

/** The worst finding decides; every finding is a reason. */
export function judgeHealth(facts: HealthFacts): { health: Health; reasons: string[] } {
  const findings = RULES.map((rule) => rule(facts)).filter((found) => found !== null);
  const reasonsOf = (health: Health) =>
    findings.filter((found) => found.health === health).map(({ reason }) => reason);
  const [critical, lesser] = [reasonsOf("critical"), reasonsOf("warning")];
  const health = critical.length > 0 ? "critical" : lesser.length > 0 ? "warning" : "normal";
  return { health, reasons: [...critical, ...lesser] };
}

function judgeState({
  state,
  isEnding = false,
  errorMessage,
  suspectBytes,
  waitsUntilMs,
}: HealthFacts): Finding | null {
  const until = waitsUntilMs === null ? "an administrator" : new Date(waitsUntilMs).toISOString();
  switch (state) {
    case "error":
      return critical(errorMessage ?? "Replication has stopped.");
    case "resynchronization-required":
      return critical(
        `Resynchronization required: ${suspectBytes} bytes are suspect and wait for ${until}.`,
      );
    case "resynchronizing":
      return warning(`Resynchronizing: ${suspectBytes} bytes are still to be compared.`);
    case "ready":
      return warning(`Initial replication waits for ${until}.`);
    case "initial-replication":
      return warning("Initial replication is not complete: there is no recovery point yet.");
    case "handing-over":
      return warning("A planned failover is under way: the VM's disks are not served any more.");
    case "failed-over":
      return warning(
        "The replica has taken over: the VM's disks are not served here until it gives them back.",
      );
    case "suspended":
      if (isEnding) return critical("Its removal was begun and is not complete: repeat it.");
      return warning("Replication is suspended.");
    case "replicating":
      return null;
  }
}

function judgeFailures({ state, failuresInARow, errorMessage }: HealthFacts): Finding | null {
  if (failuresInARow === 0 || state === "error") return null;
  const reason = `${failuresInARow} failures in a row: ${errorMessage ?? "cause unknown"}`;
  return failuresInARow >= FAILURES_CRITICAL ? critical(reason) : warning(reason);
}

function judgeLag({ state, lagMs, intervalMs }: HealthFacts): Finding | null {
  if (lagMs === null || state === "failed-over") return null;
  const reason = `The replica is ${Math.round(lagMs / 1000)} s behind.`;
  if (lagMs > LAG_CRITICAL_INTERVALS * intervalMs) return critical(reason);
  const warningMs = Math.min(LAG_WARNING_INTERVALS * intervalMs, intervalMs + LAG_WARNING_MS);
  return lagMs > warningMs ? warning(reason) : null;
}

function judgeMissedCycles({ cycles, intervalMs }: HealthFacts): Finding | null {
  const { doneCount, missedCount, meanDurationMs } = cycles;
  const allCount = doneCount + missedCount;
  if (allCount < FEWEST_CYCLES || missedCount <= MISSED_SHARE_WARNING * allCount) return null;
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  return warning(
    `${missedCount} of the last ${allCount} cycles were missed: one is due every ${seconds(intervalMs)} and takes ${seconds(meanDurationMs)}.`,
  );
}

function judgeThaw({ applications }: HealthFacts): Finding | null {
  if (applications === null || applications.thaw === null) return null;
  const { sinceMs, error } = applications.thaw;
  const since = new Date(sinceMs).toISOString();
  return critical(`The VM's applications may be frozen since ${since}: ${error.message}`);
}

function judgeFreeze({ applications }: HealthFacts): Finding | null {
  if (applications === null || applications.lastError === null) return null;
  const { message, retryAtMs } = applications.lastError;
  const retry = retryAtMs === null ? "" : ` Next try at ${new Date(retryAtMs).toISOString()}.`;
  return warning(`The last point is not application-consistent: ${message}${retry}`);
}

function critical(reason: string): Finding {
  return { health: "critical", reason };
}

function warning(reason: string): Finding {
  return { health: "warning", reason };
}
