import type { Cut, SegmentPlan, SegmentSource } from "./delta.js";
import { TidemarkError } from "./errors.js";
import { at, type BlockMap, clearAll, moveAll } from "./memory-block-map.js";
import type { MemoryCapture } from "./memory-capture.js";
import type { SuspicionCause } from "./suspicion.js";
import type { TargetChanges } from "./vm-tracker.js";

/** Makes the record bytes of a segment; `contents` has one entry for each extent of the plan. */
export type EncodeSegment = (
  deltaId: string,
  plan: SegmentPlan,
  contents: readonly Uint8Array[],
) => Uint8Array;

export interface MemoryTarget {
  readonly pending: BlockMap;
  readonly inFlight: BlockMap;
  readonly staged: BlockMap;
  readonly suspect: BlockMap;
  readonly causes: Set<SuspicionCause>;
  /** Suspicions that were raised; a comparison that began before one proves nothing. */
  suspicionCount: number;
  changes: MemoryChanges | null;
}

interface ChangesContext {
  readonly encode: EncodeSegment;
  readonly contents: readonly Uint8Array[];
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

  async commit(): Promise<void> {
    this.#end((target) => {
      clearAll(target.inFlight);
      clearAll(target.staged);
    });
  }

  async giveBack(): Promise<void> {
    this.#end((target) => moveAll(target.inFlight, target.pending));
  }

  async stage(): Promise<void> {
    if (this.capture !== null) {
      throw new TidemarkError("CONFLICT", "Cannot stage a checkpoint: because only drains stage.");
    }
    this.#end((target) => moveAll(target.inFlight, target.staged));
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
    yield this.#context.encode(deltaId, plan, contents);
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
