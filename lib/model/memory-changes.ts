import type { Cut, SegmentPlan, SegmentSource } from "./delta.js";
import { TidemarkError } from "./errors.js";
import { at, clearAll, moveAll } from "./memory-block-map.js";
import type { MemoryCapture } from "./memory-capture.js";
import type { MemoryContentFilter } from "./memory-known-content.js";
import type { MemoryTarget } from "./memory-target.js";
import type { TargetChanges } from "./vm-tracker.js";

/** Makes the record bytes of a segment; `contents` has one entry for each extent of the plan. */
export type EncodeSegment = (
  deltaId: string,
  plan: SegmentPlan,
  contents: readonly Uint8Array[],
) => Uint8Array;

interface ChangesContext {
  readonly encode: EncodeSegment;
  readonly contents: readonly Uint8Array[];
  readonly filter: MemoryContentFilter | null;
  /** Since the cut. */
  readonly isSuspect: () => boolean;
  readonly end: (move: (target: MemoryTarget) => void) => void;
}

/** The changes of one cut of a MemoryVmTracker, or of one drain pass. */
export class MemoryChanges implements TargetChanges {
  readonly cut: Cut;
  readonly segments: readonly SegmentPlan[];
  readonly dirtyBytes: number;
  readonly capture: MemoryCapture | null;
  readonly #context: ChangesContext;
  #ended = false;

  constructor(
    cut: Cut,
    segments: readonly SegmentPlan[],
    capture: MemoryCapture | null,
    context: ChangesContext,
  ) {
    this.cut = cut;
    this.segments = segments;
    this.dirtyBytes = segments.reduce((sum, plan) => sum + plan.contentBytes, 0);
    this.capture = capture;
    this.#context = context;
  }

  source(deltaId: string, plan: SegmentPlan): SegmentSource {
    return { deltaId, plan, records: (signal) => this.#records(deltaId, plan, signal) };
  }

  release(plan: SegmentPlan): void {
    if (!this.#ended) this.capture?.release(plan);
  }

  brokenReason(): string | null {
    if (this.#context.isSuspect()) return "blocks became suspect after the checkpoint";
    return this.capture?.brokenReason ?? null;
  }

  async commit(pointId?: string): Promise<void> {
    const { filter } = this.#context;
    this.#end((target) => {
      clearAll(target.inFlight);
      clearAll(target.staged);
    });
    if (pointId === undefined) filter?.forget();
    else filter?.settle(pointId, this.segments);
  }

  async giveBack(): Promise<void> {
    const isBroken = this.brokenReason() !== null;
    this.#end((target) => moveAll(target.inFlight, target.pending));
    if (isBroken) this.#context.filter?.forget();
  }

  async stage(): Promise<void> {
    this.#end((target) => moveAll(target.inFlight, target.staged));
    this.#context.filter?.forget();
  }

  invalidate(): void {
    this.#ended = true;
  }

  async *#records(
    deltaId: string,
    plan: SegmentPlan,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    signal?.throwIfAborted();
    this.#requireOpen();
    const contents: Uint8Array[] = [];
    for (let index = 0; index < plan.extents.length; index += 2) {
      const offset = plan.extents[index] ?? 0;
      const length = plan.extents[index + 1] ?? 0;
      const content = at(this.#context.contents, plan.diskIndex);
      contents.push(
        this.capture?.read(plan, offset, length) ?? content.slice(offset, offset + length),
      );
    }
    const sent = this.#context.filter?.filter(plan, contents) ?? { plan, contents };
    yield this.#context.encode(deltaId, sent.plan, sent.contents);
  }

  #end(move: (target: MemoryTarget) => void): void {
    this.#requireOpen();
    this.#ended = true;
    this.#context.end(move);
  }

  #requireOpen(): void {
    if (!this.#ended) return;
    throw new TidemarkError("CLOSED", "Cannot use the changes: because they were ended before.");
  }
}
