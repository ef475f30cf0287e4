import { suspicionCausesOf } from "../model/suspicion.js";
import type { NativeTrackedDevice } from "./binding.js";
import type { TargetStatus } from "./target-status.js";

/** The last block may be shorter than the others: no count is more than the disk's size. */
export function targetStatusesOf(
  native: NativeTrackedDevice,
  { granularityBytes, sizeBytes }: { granularityBytes: number; sizeBytes: number },
): TargetStatus[] {
  const bytes = (blocks: number) => Math.min(blocks * granularityBytes, sizeBytes);
  return native.targets().map((target) => ({
    targetId: target.id,
    pendingBytes: bytes(target.pendingBlocks),
    inFlightBytes: bytes(target.inFlightBlocks),
    stagedBytes: bytes(target.stagedBlocks),
    suspectBytes: bytes(target.suspectBlocks),
    suspicionCauses: suspicionCausesOf(target.suspicionCauses),
  }));
}
