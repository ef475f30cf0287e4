import type { PointManifest } from "./documents.js";

/**
 * T46: the time that retention reckons with. Neither clock is believed alone: each point
 * adds the smaller of the steps that the primary's clock (when it was cut) and the
 * replica's (when it arrived) made since the point before; a clock that stood still or went
 * back has no say. So it never goes back, follows no single clock that jumps ahead, and
 * goes on as long as either clock does.
 */
export function nextChainTimeMs(
  head: PointManifest | null,
  takenAtMs: number,
  receivedAtMs: number,
): number {
  if (head === null) return receivedAtMs;
  const steps = [takenAtMs - head.point.takenAtMs, receivedAtMs - (head.receivedAtMs ?? Infinity)];
  const forward = steps.filter((stepMs) => stepMs > 0);
  return head.chainTimeMs + (forward.length === 0 ? 0 : Math.min(...forward));
}
