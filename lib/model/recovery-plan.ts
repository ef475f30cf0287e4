/**
 * A recovery plan: what an administrator wants done, in order, when VMs are to run from
 * their replicas. A document of the administrator's; management/plan-schemas.ts is its form.
 */
export const PLAN_FORMAT_VERSION = 1;

/** Absent members: the newest. */
export interface PlanPoint {
  /** The newest that was taken then or before; ISO 8601 with its zone. */
  readonly atOrBefore?: string | undefined;
  /** Of a group: that cut. */
  readonly cutNumber?: number | undefined;
}

/** One of `vms` and `group`. */
export interface PlanFailover {
  readonly vms?: readonly string[] | undefined;
  /** All its members, from one cut. */
  readonly group?: string | undefined;
  readonly point?: PlanPoint | undefined;
}

export interface PlanScript {
  /** On the replica's host; absolute. */
  readonly path: string;
  readonly args: readonly string[];
  /** After it, its whole process group is killed. */
  readonly timeoutMs: number;
}

/** One of `failover`, `delayMs`, `script` and `endTest`. */
export interface PlanStep {
  /** Unique in its plan. */
  readonly name: string;
  readonly failover?: PlanFailover | undefined;
  readonly delayMs?: number | undefined;
  readonly script?: PlanScript | undefined;
  /** A test run closes here what it has opened; a real run passes over it. */
  readonly endTest?: true | undefined;
  readonly onFailure: "stop" | "continue";
}

export interface RecoveryPlan {
  readonly version: typeof PLAN_FORMAT_VERSION;
  readonly name: string;
  readonly description?: string | undefined;
  readonly steps: readonly PlanStep[];
}
