import type { Test } from "tap";
import type { Clock } from "#lib/model/clock.js";
import type { VerificationStatus } from "#lib/model/verification.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { Verifications } from "#lib/replica/verifications.js";

/** Time that passes only for who sleeps. */
export function sleeplessClock(): Clock & { readonly sleptMs: () => number } {
  let nowMs = 1_700_000_000_000;
  const startMs = nowMs;
  return {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (delayMs, signal) => {
      signal?.throwIfAborted();
      nowMs += delayMs;
    },
    sleptMs: () => nowMs - startMs,
  };
}

/** Verifies all of a VM, or one point of it, to the end. */
export async function verified(
  t: Test,
  store: ReplicaStore,
  vmId: string,
  pointSequence: number | null = null,
  mends = false,
): Promise<VerificationStatus> {
  const clock = sleeplessClock();
  await using verifications = new Verifications({ store, clock, bytesPerSecond: 2 ** 40 });
  await verifications.start(vmId, pointSequence, mends);
  await verifications.settled(vmId);
  const status = await verifications.status(vmId);
  t.equal(status.lastFailure, null, "the verification came to its end");
  return status;
}
