import type { Cut, SegmentPlan, SegmentSource } from "../model/delta.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { TargetChanges } from "../model/vm-tracker.js";

/** The cut that the point was made of, as it stands now: empty cycles may have extended it. */
function cutOfPoint(point: RecoveryPoint, isExtension: boolean): Cut {
  const { cutSequence: sequence, takenAtMs, validUntilMs, consistency, group } = point;
  const measured = { pauseNs: 0, requestsInFlight: 0 };
  const cut = { sequence, takenAtMs: isExtension ? validUntilMs : takenAtMs, consistency };
  if (group === undefined) return { ...cut, ...measured };
  const { validUntilCutNumber, ...taken } = group;
  const cutNumber = isExtension ? validUntilCutNumber : taken.cutNumber;
  return { ...cut, ...measured, group: { ...taken, cutNumber } };
}

/** A cut of disks that are as they were at a recovery point: it bears the point's time and marks. */
export class PointChanges implements TargetChanges {
  readonly cut: Cut;
  readonly #changes: TargetChanges;
  readonly #onEnd: () => void;

  /** `onEnd` is called once at least. */
  constructor(changes: TargetChanges, point: RecoveryPoint, onEnd: () => void) {
    this.cut = cutOfPoint(point, changes.segments.length === 0);
    this.#changes = changes;
    this.#onEnd = onEnd;
  }

  get dirtyBytes(): number {
    return this.#changes.dirtyBytes;
  }

  get segments(): readonly SegmentPlan[] {
    return this.#changes.segments;
  }

  source(deltaId: string, plan: SegmentPlan): SegmentSource {
    return this.#changes.source(deltaId, plan);
  }

  release(plan: SegmentPlan): void {
    this.#changes.release(plan);
  }

  brokenReason(): string | null {
    return this.#changes.brokenReason();
  }

  commit(pointId?: string): Promise<void> {
    return this.#changes.commit(pointId).finally(this.#onEnd);
  }

  giveBack(): Promise<void> {
    return this.#changes.giveBack().finally(this.#onEnd);
  }

  stage(): Promise<void> {
    return this.#changes.stage().finally(this.#onEnd);
  }
}
