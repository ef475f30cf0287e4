/**
 * What a relationship does between its cycles, when no cut is open: comparing by order,
 * and asking the replica what it has found damaged of its newest point.
 */
import { lengthOf } from "../model/block-hashes.js";
import type { Clock } from "../model/clock.js";
import { TidemarkError } from "../model/errors.js";
import { intersect } from "../model/extent-list.js";
import type { ComparisonReport } from "../model/replica-comparison.js";
import type { Nap } from "./nap.js";
import { ReplicaComparison } from "./replica-comparison.js";
import type { RelationshipContext } from "./relationship-context.js";

/** Of the interval, for comparing. */
const SHARE = 0.5;

export class BetweenCycles {
  readonly #clock: Clock;
  readonly #nap: Nap;
  #comparison: ReplicaComparison | null = null;
  #checkedAtMs: number | null = null;

  constructor(clock: Clock, nap: Nap) {
    this.#clock = clock;
    this.#nap = nap;
  }

  get comparison(): ComparisonReport | null {
    return this.#comparison?.report() ?? null;
  }

  /** IN_USE while one is under way. */
  compare(isRepair: boolean): void {
    if (this.#comparison?.isRunning === true) {
      throw new TidemarkError("IN_USE", "Cannot compare: because a comparison is under way.", {
        hint: "Wait for its end, or stop it first.",
      });
    }
    this.#comparison = new ReplicaComparison(isRepair, this.#clock.nowMs());
    this.#nap.wake();
  }

  stopComparison(): void {
    this.#comparison?.stop(this.#clock.nowMs());
  }

  /**
   * Neither delays replication by more than a part of its interval, nor fails it. `waitMs`
   * are left until the next cycle; 0: it is late, and comparing delays it.
   */
  async run(context: RelationshipContext, waitMs: number, signal: AbortSignal): Promise<void> {
    await this.#takeDamage(context, signal).catch(() => signal.throwIfAborted());
    const shareMs = context.journal.record.settings.intervalMs * SHARE;
    const lengthMs = waitMs === 0 ? shareMs : Math.min(shareMs, waitMs);
    const comparison = this.#comparison;
    if (comparison?.isRunning !== true) return;
    await comparison.run(context, this.#clock.monotonicMs() + lengthMs, signal);
    if (comparison.report().state !== "done") return;
    // A note that fails costs only what is shown after a restart.
    await context.journal.update({ lastComparison: comparison.report() }).catch(() => undefined);
  }

  /** What rotted at the replica travels again, whatever it was. */
  async #takeDamage(context: RelationshipContext, signal: AbortSignal): Promise<void> {
    const { endpoint, vm, journal, limits } = context;
    const now = this.#clock.monotonicMs();
    if (this.#checkedAtMs !== null && now - this.#checkedAtMs < limits.damageCheckMs) return;
    this.#checkedAtMs = now;
    const { head, headDamage } = await endpoint.status(vm.vmId, signal);
    if (head?.pointId !== journal.record.headPointId) return;
    for (const { diskId, extents } of headDamage ?? []) {
      await this.#markDamaged(context, diskId, extents);
    }
  }

  async #markDamaged(
    { tracker, targetId }: RelationshipContext,
    diskId: string,
    extents: readonly number[],
  ): Promise<void> {
    const diskIndex = tracker.disks.findIndex((disk) => disk.diskId === diskId);
    const disk = tracker.disks[diskIndex];
    if (disk === undefined) return;
    const inside = intersect(extents, [0, disk.sizeBytes]);
    if (lengthOf(inside) > 0) await tracker.markPending(targetId, diskIndex, inside);
  }
}
