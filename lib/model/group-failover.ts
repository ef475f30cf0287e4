import type { TidemarkError } from "./errors.js";
import type { FailoverLoss } from "./failover-loss.js";

export const MEMBER_OUTCOMES = ["done", "done before", "failed"] as const;

/** What an order for a whole group came to, for one of its VMs. */
export interface MemberOutcome {
  readonly vmId: string;
  readonly name: string;
  readonly outcome: (typeof MEMBER_OUTCOMES)[number];
  /** Of an unplanned failover that was done now. */
  readonly loss: FailoverLoss | null;
  /** Why it failed. */
  readonly error: TidemarkError | null;
}

export interface GroupOrderReport {
  readonly group: string;
  /** Of an unplanned failover: the cut that all go on from. */
  readonly cut: {
    readonly groupId: string;
    readonly name: string;
    readonly cutNumber: number;
    readonly takenAtMs: number;
  } | null;
  readonly members: readonly MemberOutcome[];
}
