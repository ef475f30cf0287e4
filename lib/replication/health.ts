import type { Health, RelationshipState } from "../model/relationship.js";

export interface HealthFacts {
  readonly state: RelationshipState;
  readonly errorMessage: string | null;
  readonly failuresInARow: number;
  readonly lagMs: number | null;
  readonly intervalMs: number;
  /** Set when the gate's time box grew: how long it is now. */
  readonly grownDrainLimitMs: number | null;
}

const LAG_WARNING_INTERVALS = 3;
const LAG_CRITICAL_INTERVALS = 12;
const FAILURES_CRITICAL = 5;

/** The worst finding decides; every finding is a reason. */
export function judgeHealth(facts: HealthFacts): { health: Health; reasons: string[] } {
  const critical: string[] = [];
  const warning: string[] = [];
  const { lagMs, intervalMs, failuresInARow, grownDrainLimitMs } = facts;
  if (facts.state === "error") critical.push(facts.errorMessage ?? "Replication has stopped.");
  if (facts.state === "suspended") warning.push("Replication is suspended.");
  if (failuresInARow > 0 && facts.state !== "error") {
    const list = failuresInARow >= FAILURES_CRITICAL ? critical : warning;
    list.push(`${failuresInARow} failures in a row: ${facts.errorMessage ?? "cause unknown"}`);
  }
  if (lagMs !== null && lagMs > LAG_WARNING_INTERVALS * intervalMs) {
    const list = lagMs > LAG_CRITICAL_INTERVALS * intervalMs ? critical : warning;
    list.push(`The replica is ${Math.round(lagMs / 1000)} s behind.`);
  }
  if (grownDrainLimitMs !== null) {
    warning.push(`Slow storage: checkpoints may hold writes for ${grownDrainLimitMs} ms.`);
  }
  const health = critical.length > 0 ? "critical" : warning.length > 0 ? "warning" : "normal";
  return { health, reasons: [...critical, ...warning] };
}
