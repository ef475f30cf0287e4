import type { RecoveryPoint } from "./replica-endpoint.js";

/** What a failover loses, as time. */
export interface FailoverLoss {
  /** Up to here the VM's writes are in the point that it goes on from. */
  readonly pointAtMs: number;
  /** Up to here the replica knew of its writes. */
  readonly lastKnownAtMs: number;
  /** What the choice of the point gave up: from the one to the other. */
  readonly givenUpMs: number;
  /** No more than this: from the point until the failover. */
  readonly atMostMs: number;
}

type Reach = Pick<RecoveryPoint, "validUntilMs">;

export function failoverLoss(point: Reach, head: Reach, nowMs: number): FailoverLoss {
  const { validUntilMs: pointAtMs } = point;
  const lastKnownAtMs = Math.max(pointAtMs, head.validUntilMs);
  const givenUpMs = lastKnownAtMs - pointAtMs;
  // The primary's clock, which the points have, may be ahead of this host's.
  return { pointAtMs, lastKnownAtMs, givenUpMs, atMostMs: Math.max(givenUpMs, nowMs - pointAtMs) };
}
