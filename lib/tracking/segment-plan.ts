import { setImmediate } from "node:timers/promises";
import type { SegmentPlan } from "../model/delta.js";
import type { NativeCapture } from "./binding.js";
import type { BlockHeat } from "./block-heat.js";

const EXTENTS_AT_ONCE = 16_384;
/** A map with millions of blocks must not hold the event loop. */
const BLOCKS_AT_ONCE = 1 << 18;
/** From the hottest: in how many of the last cuts a block must have been. */
const HEAT_LIMITS = [4, 2, 1, 0] as const;

type Draft = Omit<SegmentPlan, "segmentIndex">;

/** Collects the extents of one disk into segments of at most `segmentBytes` content. */
class SegmentPlanner {
  readonly #capture: NativeCapture;
  readonly #diskIndex: number;
  readonly #segmentBytes: number;
  readonly #drafts: Draft[];
  #pairs: number[] = [];
  #contentBytes = 0;

  constructor(capture: NativeCapture, diskIndex: number, segmentBytes: number, drafts: Draft[]) {
    this.#capture = capture;
    this.#diskIndex = diskIndex;
    this.#segmentBytes = segmentBytes;
    this.#drafts = drafts;
  }

  add(offsetBytes: number, lengthBytes: number): void {
    if (this.#contentBytes + lengthBytes > this.#segmentBytes) this.close();
    this.#pairs.push(offsetBytes, lengthBytes);
    this.#contentBytes += lengthBytes;
  }

  close(): void {
    if (this.#pairs.length === 0) return;
    this.#drafts.push({
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

/** Cuts an extent where its blocks' heat changes. */
class HeatSorter {
  readonly #planners: readonly SegmentPlanner[];
  readonly #heat: BlockHeat;
  readonly #granularityBytes: number;

  constructor(planners: readonly SegmentPlanner[], heat: BlockHeat, granularityBytes: number) {
    this.#planners = planners;
    this.#heat = heat;
    this.#granularityBytes = granularityBytes;
  }

  add(offsetBytes: number, lengthBytes: number): void {
    const endBytes = offsetBytes + lengthBytes;
    let runStart = offsetBytes;
    let runClass = -1;
    for (let at = offsetBytes; at < endBytes; at += this.#granularityBytes) {
      const heat = this.#heat.touch(at / this.#granularityBytes);
      const heatClass = HEAT_LIMITS.findIndex((limit) => heat >= limit);
      if (heatClass !== runClass && at > runStart) this.#close(runClass, runStart, at);
      if (heatClass !== runClass) [runStart, runClass] = [at, heatClass];
    }
    this.#close(runClass, runStart, endBytes);
  }

  #close(heatClass: number, startBytes: number, endBytes: number): void {
    this.#planners[heatClass]?.add(startBytes, endBytes - startBytes);
  }
}

/**
 * Which block travels in which segment, once and for all. With `heats` (one a disk) the
 * blocks that were in the most of the last cuts come first, for they are the likeliest
 * to be overwritten, and what is read and released need not be copied before that; a
 * segment's own extents ascend all the same. Without, all is in disk order.
 */
export async function planSegments(
  captures: readonly NativeCapture[],
  segmentBytes: number,
  heats: readonly BlockHeat[] = [],
): Promise<readonly SegmentPlan[]> {
  const drafts = HEAT_LIMITS.map((): Draft[] => []);
  for (const [diskIndex, capture] of captures.entries()) {
    const planners = drafts.map(
      (ofClass) => new SegmentPlanner(capture, diskIndex, segmentBytes, ofClass),
    );
    const heat = heats[diskIndex];
    heat?.beginCut(capture.granularityBytes);
    const sorter = heat && new HeatSorter(planners, heat, capture.granularityBytes);
    await addExtents(capture, segmentBytes, sorter ?? planners[0]);
    for (const planner of planners) planner.close();
  }
  return drafts.flat().map((draft, segmentIndex) => ({ segmentIndex, ...draft }));
}

async function addExtents(
  capture: NativeCapture,
  segmentBytes: number,
  planner: { add(offsetBytes: number, lengthBytes: number): void } | undefined,
): Promise<void> {
  let blockCount = 0;
  for (let fromBytes = 0; ; ) {
    const pairs = capture.extents(fromBytes, EXTENTS_AT_ONCE, segmentBytes);
    if (pairs.length === 0) return;
    for (let i = 0; i + 1 < pairs.length; i += 2) {
      planner?.add(pairs[i] ?? 0, pairs[i + 1] ?? 0);
      blockCount += (pairs[i + 1] ?? 0) / capture.granularityBytes;
      if (blockCount < BLOCKS_AT_ONCE) continue;
      blockCount = 0;
      await setImmediate();
    }
    fromBytes = (pairs.at(-2) ?? 0) + (pairs.at(-1) ?? 0);
    await setImmediate();
  }
}
