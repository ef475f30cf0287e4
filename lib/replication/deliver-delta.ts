/**
 * Brings the segments of one cut to the replica: announced, put several at
 * once, announced again after a failure and gone on with at what is missing.
 * Commits nothing.
 */
import type { DeltaHeader, SegmentPlan, SegmentReceipt } from "../model/delta.js";
import { deltaDigest } from "../model/delta-digest.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { inLanes } from "../model/in-lanes.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import type { RelationshipContext } from "./relationship-context.js";
import { asDeltaError, backOff, isOutage } from "./retry.js";

export interface DeliveredDelta {
  /** As announced in the attempt that succeeded. */
  readonly header: DeltaHeader;
  readonly digest: string;
  readonly sentBytes: number;
  /** Content of the segments that did not travel. */
  readonly unchangedBytes: number;
}

export type DeltaDraft = Pick<
  DeltaHeader,
  "deltaId" | "kind" | "parentPointId" | "stagingSessionId"
>;

/** Of the first attempt. */
export function newHeader(
  context: RelationshipContext,
  changes: TargetChanges,
  draft: DeltaDraft,
): DeltaHeader {
  const { vm, journal } = context;
  return {
    ...draft,
    formatVersion: 1,
    attempt: 1,
    vmId: vm.vmId,
    generation: journal.record.generation,
    cut: changes.cut,
    ...disksOf(context),
    segmentCount: changes.segments.length,
  };
}

export function disksOf({ vm }: RelationshipContext): Pick<DeltaHeader, "disks" | "excludedDisks"> {
  const { disks, excludedDisks = [] } = vm;
  return { disks, ...(excludedDisks.length === 0 ? {} : { excludedDisks }) };
}

type OnSegment = (receipt: SegmentReceipt) => void;

export async function deliverDelta(
  context: RelationshipContext,
  changes: TargetChanges,
  draft: DeltaDraft,
  signal: AbortSignal,
  onSegment: OnSegment = () => {},
): Promise<DeliveredDelta> {
  const delivery = new Delivery(context, changes, draft, onSegment);
  let failures = 0;
  for (let attempt = 1; ; attempt += 1) {
    const arrivedBefore = delivery.arrivedCount;
    try {
      return await delivery.attempt(attempt, signal);
    } catch (thrown) {
      signal.throwIfAborted();
      failures = delivery.arrivedCount > arrivedBefore ? 1 : failures + 1;
      const error = toTidemarkError(thrown);
      requireUnbroken(changes);
      if (!mayTryAgain(context, draft, error, failures)) throw error;
      context.onRetry(error);
      await backOff(context, failures, signal);
    }
  }
}

export function requireUnbroken(changes: TargetChanges): void {
  const reason = changes.brokenReason();
  if (reason === null) return;
  throw new TidemarkError("CAPTURE_BROKEN", `Cannot send the checkpoint: because ${reason}.`);
}

/**
 * A capture is held for a few tries only. A drain pass freezes nothing, so an
 * outage does not cost it what has arrived, however long it lasts.
 */
function mayTryAgain(
  { limits }: RelationshipContext,
  draft: DeltaDraft,
  error: TidemarkError,
  failures: number,
): boolean {
  if (!error.retryable) return false;
  if (error.code === "STAGING_LOST" || error.code === "CAPTURE_BROKEN") return false;
  return failures < limits.deliveryFailures || (draft.kind === "staging" && isOutage(error));
}

class Delivery {
  readonly #context: RelationshipContext;
  readonly #changes: TargetChanges;
  readonly #draft: DeltaDraft;
  readonly #onSegment: OnSegment;
  /** As of the checkpoint: a disk does not grow while its changes are held. */
  readonly #disks: Pick<DeltaHeader, "disks" | "excludedDisks">;
  readonly #released = new Set<number>();
  #receipts = new Map<number, SegmentReceipt>();

  constructor(
    context: RelationshipContext,
    changes: TargetChanges,
    draft: DeltaDraft,
    onSegment: OnSegment,
  ) {
    this.#context = context;
    this.#changes = changes;
    this.#draft = draft;
    this.#onSegment = onSegment;
    this.#disks = disksOf(context);
  }

  get arrivedCount(): number {
    return this.#receipts.size;
  }

  async attempt(attempt: number, signal: AbortSignal): Promise<DeliveredDelta> {
    const header = this.#header(attempt);
    const durable = await this.#context.endpoint.openDelta(header, signal);
    // The replica's answer is the truth: what it does not name was lost there.
    this.#receipts = new Map();
    for (const receipt of durable) this.#take(receipt);
    await this.#putMissing(signal);
    const receipts = this.#changes.segments.map((plan) => this.#receiptOf(plan));
    const sentBytes = receipts.reduce((sum, receipt) => sum + receipt.wireBytes, 0);
    const arrivedBytes = receipts.reduce((sum, one) => sum + one.dataBytes + one.zeroBytes, 0);
    const unchangedBytes = this.#contentBytes - arrivedBytes;
    return { header, digest: deltaDigest(receipts), sentBytes, unchangedBytes };
  }

  get #contentBytes(): number {
    return this.#changes.segments.reduce((sum, { contentBytes }) => sum + contentBytes, 0);
  }

  #header(attempt: number): DeltaHeader {
    return { ...newHeader(this.#context, this.#changes, this.#draft), attempt, ...this.#disks };
  }

  async #putMissing(signal: AbortSignal): Promise<void> {
    const missing = this.#changes.segments.filter((plan) => !this.#receipts.has(plan.segmentIndex));
    if (missing.some((plan) => this.#released.has(plan.segmentIndex))) {
      throw new TidemarkError(
        "CAPTURE_BROKEN",
        "Cannot go on with the delta: because the replica lost segments whose content is released.",
        { hint: "Nothing: the next cycle sends them in a new delta." },
      );
    }
    const queue = missing.values();
    await inLanes(this.#context.limits.parallelSegments, signal, async (laneSignal) => {
      for (const plan of queue) await this.#put(plan, laneSignal);
    });
  }

  async #put(plan: SegmentPlan, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const source = this.#changes.source(this.#draft.deltaId, plan);
    const receipt = await this.#context.endpoint.putSegment(source, signal).catch((thrown) => {
      throw asDeltaError(thrown);
    });
    if (receipt.segmentIndex !== plan.segmentIndex) {
      throw new TidemarkError("CORRUPT", "Cannot take the receipt: because it is another's.");
    }
    this.#take(receipt);
  }

  #take(receipt: SegmentReceipt): void {
    const plan = this.#changes.segments[receipt.segmentIndex];
    if (plan === undefined) {
      throw new TidemarkError("CORRUPT", "Cannot take the receipt: because it is another delta's.");
    }
    this.#receipts.set(receipt.segmentIndex, receipt);
    if (this.#draft.kind === "point" && !this.#released.has(receipt.segmentIndex)) {
      this.#released.add(receipt.segmentIndex);
      this.#changes.release(plan);
    }
    this.#onSegment(receipt);
  }

  #receiptOf(plan: SegmentPlan): SegmentReceipt {
    const receipt = this.#receipts.get(plan.segmentIndex);
    if (receipt !== undefined) return receipt;
    throw new TidemarkError("INTERNAL", "Cannot close the delta: because a segment was not sent.");
  }
}
