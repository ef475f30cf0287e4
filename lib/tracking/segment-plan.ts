import { setImmediate } from "node:timers/promises";
import type { SegmentPlan } from "../model/delta.js";
import type { NativeCapture } from "./binding.js";

const EXTENTS_AT_ONCE = 16_384;

/** Collects the extents of one disk into segments of at most `segmentBytes` content. */
class SegmentPlanner {
  readonly #capture: NativeCapture;
  readonly #diskIndex: number;
  readonly #segmentBytes: number;
  readonly #plans: SegmentPlan[];
  #pairs: number[] = [];
  #contentBytes = 0;

  constructor(
    capture: NativeCapture,
    diskIndex: number,
    segmentBytes: number,
    plans: SegmentPlan[],
  ) {
    this.#capture = capture;
    this.#diskIndex = diskIndex;
    this.#segmentBytes = segmentBytes;
    this.#plans = plans;
  }

  add(offsetBytes: number, lengthBytes: number): void {
    if (this.#contentBytes + lengthBytes > this.#segmentBytes) this.close();
    this.#pairs.push(offsetBytes, lengthBytes);
    this.#contentBytes += lengthBytes;
  }

  close(): void {
    if (this.#pairs.length === 0) return;
    this.#plans.push({
      segmentIndex: this.#plans.length,
      diskIndex: this.#diskIndex,
      extents: Float64Array.from(this.#pairs),
      contentBytes: this.#contentBytes,
      granularityBytes: this.#capture.granularityBytes,
      captureId: this.#capture.id,
    });
    this.#pairs = [];
    this.#contentBytes = 0;
  }
}

/** Which block travels in which segment, once and for all; in disk order. */
export async function planSegments(
  captures: readonly NativeCapture[],
  segmentBytes: number,
): Promise<readonly SegmentPlan[]> {
  const plans: SegmentPlan[] = [];
  for (const [diskIndex, capture] of captures.entries()) {
    const planner = new SegmentPlanner(capture, diskIndex, segmentBytes, plans);
    for (let fromBytes = 0; ; ) {
      const pairs = capture.extents(fromBytes, EXTENTS_AT_ONCE, segmentBytes);
      if (pairs.length === 0) break;
      for (let i = 0; i + 1 < pairs.length; i += 2) {
        planner.add(pairs[i] ?? 0, pairs[i + 1] ?? 0);
      }
      fromBytes = (pairs.at(-2) ?? 0) + (pairs.at(-1) ?? 0);
      // A map with millions of runs must not hold the event loop.
      await setImmediate();
    }
    planner.close();
  }
  return plans;
}
