/**
 * What a relationship does by itself while its state is an active one: cycle after
 * cycle, and after a failure the next try.
 */
import { type TidemarkError, toTidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { systemLocalTime, type ToLocalTime } from "../model/local-time.js";
import { type HealingReport, isGivenAway, type RelationshipRecord } from "../model/relationship.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import type { BetweenCycles } from "./between-cycles.js";
import { ContinuousSchedule, type CycleSchedule, RegularSchedule } from "./cycle-schedule.js";
import { drainToStaging, NOTHING_DRAINED } from "./drain-to-staging.js";
import { bringByMedium, noMedia, takeSeed } from "./first-copy.js";
import { CheckpointMissed } from "./gate-time-box.js";
import { endOrphans } from "./give-back.js";
import type { GuestAccess } from "./guest-access.js";
import type { GroupMember } from "./group-barrier.js";
import type { HostTurns, ReplicaTurns } from "./host-turns.js";
import { askToSucceed, isAllSent, takesBack, untoldGeneration } from "./hand-over.js";
import { healSuspects } from "./heal-suspects.js";
import type { Nap } from "./nap.js";
import { runPointCycle } from "./point-cycle.js";
import { reconcile } from "./reconcile.js";
import type { RelationshipCondition } from "./relationship-condition.js";
import type { RelationshipContext } from "./relationship-context.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import type { RelationshipLink } from "./relationship-link.js";
import type { ReplicationLimits } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { mayResynchronize, resyncOpensAtMs } from "./resync-gate.js";
import { backOffMs } from "./retry.js";
import { Superseded } from "./settle-lineage.js";
import { takeReturned } from "./take-returned.js";
import { settleTargets } from "./target-bits.js";

export interface RelationshipLoopParts {
  readonly ports: ReplicationPorts;
  readonly journal: RelationshipJournal;
  readonly limits: ReplicationLimits;
  readonly condition: RelationshipCondition;
  readonly link: RelationshipLink;
  readonly between: BetweenCycles;
  /** Woken by whoever has changed something that the loop goes by. */
  readonly nap: Nap;
  readonly turns: HostTurns;
  readonly guests: GuestAccess;
  /** The VM's place in its consistency group. */
  readonly group: () => GroupMember | null;
}

/** The longest sleep before the wall clock is looked at again: it may be set. */
const LONGEST_NAP_MS = 60_000;

export class RelationshipLoop {
  readonly #parts: RelationshipLoopParts;
  readonly #toLocal: ToLocalTime;
  #rhythm: RelationshipSettings;
  #schedule: CycleSchedule;
  #context: RelationshipContext | null = null;
  /** The replica's head is not known for sure. */
  #mustAsk = true;
  /** What the newest point lacks of the VM's disks is in their maps: it may be compared with. */
  #isComparable = false;
  /** Captures in a row that did not hold. */
  #brokenCaptures = 0;

  constructor(parts: RelationshipLoopParts) {
    this.#parts = parts;
    this.#toLocal = parts.ports.toLocalTime ?? systemLocalTime;
    this.#rhythm = parts.journal.record.settings;
    this.#schedule = this.#newSchedule();
  }

  /** Until the signal aborts, or the relationship turns out to be suspended. */
  async run(signal: AbortSignal): Promise<void> {
    const { condition } = this.#parts;
    while (!signal.aborted) {
      try {
        if (await this.#foundSuspended()) return;
        if (await this.#advance(signal)) condition.noteSuccess();
      } catch (thrown) {
        if (signal.aborted) return;
        await this.#afterFailure(thrown, signal);
      }
    }
  }

  /** A note whose answer was lost may turn out to be a suspension. */
  async #foundSuspended(): Promise<boolean> {
    const { journal, condition } = this.#parts;
    await journal.refresh();
    if (journal.record.state !== "suspended") return false;
    condition.settle();
    return true;
  }

  /** One cycle, when it is time for it. False: it is not, or something was changed; look again. */
  async #advance(signal: AbortSignal): Promise<boolean> {
    const { journal, condition, link, nap, limits } = this.#parts;
    this.#followSettings();
    if (!(await this.#mayBegin(signal))) return false;
    if (this.#waitsForReturn) await nap.sleep(limits.errorRetryMs, signal);
    // While the VM is given away no cycle is missed.
    if (isGivenAway(journal.record)) this.#schedule.restart();
    const context = await link.connect();
    if (context !== this.#context) this.#mustAsk = true;
    this.#context = context;
    await endOrphans(context);
    if (journal.record.firstCopy?.by === "medium") return this.#bringByMedium(context, signal);
    if (journal.record.firstCopy?.by === "return") await takeReturned(context, signal);
    if (untoldGeneration(journal.record) !== null) await context.onReturn(async () => {});
    if (journal.record.state === "handing-over") await this.#withhold();
    if (this.#mustAsk || journal.record.inDoubt !== null) await this.#prepare(context, signal);
    if (journal.record.state === "handing-over") return this.#handOver(context, signal);
    if (!(await this.#hasSeed(context, signal))) return true;
    const isScheduled = condition.state === "replicating" || condition.state === "resynchronizing";
    if (isScheduled && !(await this.#isDue(context, signal))) return false;
    this.#isComparable = false;
    return this.#cycle(context, signal);
  }

  /** The replica has the VM, and was asked about that. */
  get #waitsForReturn(): boolean {
    return this.#context !== null && this.#parts.journal.record.state === "failed-over";
  }

  #followSettings(): void {
    const { settings } = this.#parts.journal.record;
    const { intervalMs, isContinuous } = this.#rhythm;
    if (settings.intervalMs === intervalMs && settings.isContinuous === isContinuous) return;
    this.#rhythm = settings;
    this.#schedule = this.#newSchedule();
    this.#schedule.restart();
  }

  #newSchedule(): CycleSchedule {
    const { ports, condition, group } = this.#parts;
    const { intervalMs, isContinuous } = this.#rhythm;
    condition.setInterval(intervalMs);
    return isContinuous
      ? new ContinuousSchedule(ports.clock, intervalMs)
      : new RegularSchedule(ports.clock, intervalMs, group() !== null);
  }

  /** Initial replication may be scheduled, or wait for an order. */
  async #mayBegin(signal: AbortSignal): Promise<boolean> {
    const { ports, journal, condition, nap } = this.#parts;
    const { state, initialStartAtMs } = journal.record;
    if (state !== "ready") return true;
    const aheadMs = (initialStartAtMs ?? Number.POSITIVE_INFINITY) - ports.clock.nowMs();
    if (aheadMs > 0) {
      await nap.sleep(Math.min(aheadMs, LONGEST_NAP_MS), signal);
      return false;
    }
    // Once begun it is never waited for again, whatever the wall clock is set to.
    await journal.update({ state: condition.next("begin"), initialStartAtMs: 0 });
    condition.announce();
    return true;
  }

  /** Writes the medium, or looks whether it was imported. */
  async #bringByMedium(context: RelationshipContext, signal: AbortSignal): Promise<boolean> {
    const { ports, condition, nap, limits } = this.#parts;
    const open = (record: RelationshipRecord) => ports.openMedium?.(record) ?? noMedia();
    const head = await this.#inTurn("copies", signal, () =>
      bringByMedium(context, open, this.#brokenCaptures, signal),
    );
    this.#brokenCaptures = 0;
    this.#mustAsk = true;
    condition.noteHead(head);
    condition.settle();
    if (head === null) await nap.sleep(limits.importPollMs, signal);
    return true;
  }

  /** False: the existing disk that the first copy is to begin with was not named yet. */
  async #hasSeed(context: RelationshipContext, signal: AbortSignal): Promise<boolean> {
    const { journal, nap, limits } = this.#parts;
    const { firstCopy, headPointId } = journal.record;
    if (firstCopy?.by !== "seed" || headPointId !== null) return true;
    if ((await takeSeed(context, signal)) !== null) return true;
    await nap.sleep(limits.importPollMs, signal);
    return false;
  }

  async #prepare(context: RelationshipContext, signal: AbortSignal): Promise<void> {
    const { condition } = this.#parts;
    this.#isComparable = false;
    await settleTargets(context);
    condition.noteHead(await reconcile(context, signal));
    this.#mustAsk = false;
    condition.settle();
  }

  /** Before anything is taken for the VM's last change. */
  async #withhold(): Promise<void> {
    const { guests, group } = this.#parts;
    group()?.expect(false);
    await guests.withhold(async () => {});
  }

  /** What is not at the replica yet goes first; its answer is found by asking again. */
  async #handOver(context: RelationshipContext, signal: AbortSignal): Promise<boolean> {
    if (!takesBack(context) && !(await isAllSent(context))) return this.#cycle(context, signal);
    this.#mustAsk = true;
    await askToSucceed(context, signal);
    return true;
  }

  /** Durably not served before it is noted why. */
  async #yield(): Promise<void> {
    const { guests, journal, condition, group } = this.#parts;
    this.#mustAsk = true;
    group()?.expect(false);
    await guests.withhold(async () => {
      failpoint("withheld");
      await journal.update({ state: condition.next("yield"), handOver: undefined });
    });
    condition.settle();
    condition.noteSuccess();
  }

  /** What failed is not put off to a tick that is far away. */
  async #isDue(context: RelationshipContext, signal: AbortSignal): Promise<boolean> {
    const { condition, group, nap, between } = this.#parts;
    if (this.#isRetry) return true;
    if (this.#isComparable) await between.run(context, this.#schedule.waitMs, signal);
    if (condition.failuresInARow === 0) group()?.expect(true);
    const { waitMs } = this.#schedule;
    if (waitMs > 0 && !(await nap.sleep(waitMs, signal))) return false;
    const missed = this.#schedule.begin();
    if (missed > 0) condition.noteMissed(missed, "the cycle before it was still under way");
    return true;
  }

  get #isRetry(): boolean {
    const { condition, group, limits } = this.#parts;
    const isRare = this.#rhythm.intervalMs > limits.retryMaxMs;
    return isRare && group() === null && condition.failuresInARow > 0;
  }

  async #cycle(context: RelationshipContext, signal: AbortSignal): Promise<boolean> {
    const { condition } = this.#parts;
    const isRetry = this.#isRetry;
    try {
      return await this.#tryCycle(context, signal);
    } catch (thrown) {
      const counts = condition.hasPoint && !isRetry && !signal.aborted;
      if (counts) condition.noteMissed(1, reasonOf(thrown));
      throw thrown;
    }
  }

  async #tryCycle(context: RelationshipContext, signal: AbortSignal): Promise<boolean> {
    const { ports, journal, condition } = this.#parts;
    const startedAtMs = ports.clock.nowMs();
    const startedMs = ports.clock.monotonicMs();
    const { headPointId } = journal.record;
    const healing = await this.#resynchronize(context, signal);
    if (healing === "deferred") return false;
    const drained = (await this.#needsDrain(context))
      ? await this.#inTurn("copies", signal, () =>
          drainToStaging(context, this.#brokenCaptures, signal),
        )
      : NOTHING_DRAINED;
    const outcome = await this.#inTurn("cycles", signal, () => runPointCycle(context, signal));
    this.#brokenCaptures = 0;
    condition.noteHead(outcome.point);
    if (headPointId === null) this.#schedule.restart();
    condition.announce();
    condition.noteCycle(outcome, drained, {
      kind: headPointId === null ? "initial" : "cycle",
      startedAtMs,
      durationMs: ports.clock.monotonicMs() - startedMs,
      healing,
    });
    this.#schedule.end(outcome.isNew);
    this.#isComparable = true;
    return true;
  }

  /** Before the first point there is nothing to compare with, but for an existing disk. */
  async #resynchronize(
    context: RelationshipContext,
    signal: AbortSignal,
  ): Promise<HealingReport | null | "deferred"> {
    const { journal, condition } = this.#parts;
    if (!condition.hasPoint && journal.record.firstCopy?.by === "seed") {
      return this.#inTurn("copies", signal, () => healSuspects(context, () => true, signal));
    }
    const isSuspect = async () =>
      condition.hasPoint && (await context.tracker.progress(context.targetId)).suspectBytes > 0;
    if (!(await isSuspect())) {
      condition.take("healed");
      return null;
    }
    if (!this.#mayCompare()) return this.#defer(signal);
    condition.take("compare");
    const healing = await this.#inTurn("copies", signal, () =>
      healSuspects(context, () => this.#mayCompare(), signal),
    );
    if (!this.#mayCompare() && (await isSuspect())) return this.#defer(signal);
    condition.take("healed");
    if (journal.record.isResyncOrdered) await journal.update({ isResyncOrdered: false });
    return healing;
  }

  async #defer(signal: AbortSignal): Promise<"deferred"> {
    const { ports, journal, condition, group, nap } = this.#parts;
    group()?.expect(false);
    const nowMs = ports.clock.nowMs();
    const opensAtMs = resyncOpensAtMs(journal.record, nowMs, this.#toLocal);
    condition.take("defer", opensAtMs);
    const aheadMs = (opensAtMs ?? Number.POSITIVE_INFINITY) - nowMs;
    await nap.sleep(Math.min(aheadMs, LONGEST_NAP_MS), signal);
    // Nothing was missed meanwhile: there was nothing to be done.
    this.#schedule.restart();
    return "deferred";
  }

  #mayCompare(): boolean {
    const { ports, journal } = this.#parts;
    return mayResynchronize(journal.record, ports.clock.nowMs(), this.#toLocal);
  }

  /** Not more relationships with one replica at once than the host is set to. */
  #inTurn<T>(kind: keyof ReplicaTurns, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { journal, turns } = this.#parts;
    const { vmId, group, replicaUrl } = journal.record.settings;
    // May take long: the group goes on without this VM meanwhile.
    if (kind === "copies") this.#parts.group()?.expect(false);
    const turn = turns.at(replicaUrl)[kind];
    const priority = () => journal.record.settings.priority;
    // A group's members meet in their cycles, and copy each for itself.
    const key = kind === "cycles" && group !== undefined ? `group ${group}` : vmId;
    return turn.run({ key, priority }, signal, work);
  }

  async #needsDrain({ tracker, targetId }: RelationshipContext): Promise<boolean> {
    const { journal, limits } = this.#parts;
    const { headPointId, stagingSessionId } = journal.record;
    if (headPointId === null || stagingSessionId !== null || this.#brokenCaptures > 0) return true;
    return (await tracker.progress(targetId)).pendingBytes > limits.captureBytes;
  }

  async #afterFailure(thrown: unknown, signal: AbortSignal): Promise<void> {
    const { condition, group } = this.#parts;
    if (thrown instanceof Superseded) {
      return this.#yield().catch((again: unknown) => this.#afterFailure(again, signal));
    }
    const error = toTidemarkError(thrown instanceof CheckpointMissed ? thrown.cause : thrown);
    // Who holds the VM by now is asked before anything else is said of it.
    if (error.code === "FENCED" && !this.#mustAsk) {
      this.#mustAsk = true;
      return;
    }
    condition.noteFailure();
    // A cut that all of the group missed is nobody's in particular.
    if (!(thrown instanceof CheckpointMissed)) group()?.expect(false);
    if (error.code === "CAPTURE_BROKEN") this.#brokenCaptures += 1;
    if (error.code === "STAGING_LOST" || error.code === "PARENT_MISMATCH") this.#mustAsk = true;
    const retryable = error.retryable || error.code === "PARENT_MISMATCH";
    await this.#pause(error, retryable, signal).catch((interruption: unknown) => {
      if (!signal.aborted) throw interruption;
    });
  }

  /** Says when the next try is, and waits for it. */
  async #pause(error: TidemarkError, isTransient: boolean, signal: AbortSignal): Promise<void> {
    const { ports, limits, condition, nap } = this.#parts;
    const random = ports.random ?? Math.random;
    const delayMs = isTransient
      ? backOffMs({ random, limits }, condition.failuresInARow)
      : limits.errorRetryMs;
    condition.noteError(error, ports.clock.nowMs() + delayMs);
    if (!isTransient) {
      this.#mustAsk = true;
      condition.take("fail");
    }
    await nap.sleep(delayMs, signal);
  }
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
