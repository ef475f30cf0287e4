/**
 * One VM's replication to one target: a state machine (transitions.ts) and one
 * loop that runs cycle after cycle while the state is an active one.
 *
 * Everything that must survive is in the journal; "error" is not, it is found
 * anew after a restart. suspend, resume, remove and stop are serialized; each
 * first ends the loop, which gives back what it holds.
 */
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type {
  CycleReport,
  HealingReport,
  RelationshipError,
  RelationshipSettings,
  RelationshipState,
  RelationshipStatus,
  ReplicationEvent,
} from "../model/relationship.js";
import type { RecoveryPoint, ReplicaEndpoint } from "../model/replica-endpoint.js";
import { PauseHistogram } from "../model/pause-histogram.js";
import type { CheckpointTurn } from "./checkpoint-turn.js";
import { CycleHistory } from "./cycle-history.js";
import { CycleSchedule } from "./cycle-schedule.js";
import { type DrainTotals, drainToStaging } from "./drain-to-staging.js";
import { CheckpointMissed, GateTimeBox } from "./gate-time-box.js";
import { endOrphans } from "./give-back.js";
import type { GroupMember } from "./group-barrier.js";
import { healSuspects } from "./heal-suspects.js";
import { judgeHealth } from "./health.js";
import type { HostGroups } from "./host-groups.js";
import { type PointOutcome, runPointCycle } from "./point-cycle.js";
import { reconcile } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { DEFAULT_REPLICATION_LIMITS, type ReplicationLimits } from "./replication-limits.js";
import { backOff } from "./retry.js";
import { addLostTarget, markAllocatedOnce } from "./target-bits.js";
import { nextState, type RelationshipEvent } from "./transitions.js";

interface RunningLoop {
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

export class Relationship {
  readonly #ports: ReplicationPorts;
  readonly #journal: RelationshipJournal;
  readonly #emit: (event: ReplicationEvent) => void;
  readonly #limits: ReplicationLimits;
  readonly #history: CycleHistory;
  readonly #groups: HostGroups;
  readonly #pauses = new PauseHistogram();
  #schedule: CycleSchedule;
  readonly #timeBox: GateTimeBox;
  #group: GroupMember | null;
  #endpoint: (ReplicaEndpoint & Partial<AsyncDisposable>) | null = null;
  #context: RelationshipContext | null = null;
  #loop: RunningLoop | null = null;
  #serial: Promise<unknown> = Promise.resolve();
  #announced: RelationshipState;
  #blocked = false;
  #lastError: RelationshipError | null = null;
  #failuresInARow = 0;
  /** The replica's head is not known for sure. */
  #mustAsk = true;
  /** Captures in a row that did not hold. */
  #brokenCaptures = 0;
  #validUntilMs: number | null = null;
  #lastHealing: HealingReport | null = null;
  #progress: { sentBytes: number; totalBytes: number } | null = null;

  constructor(
    ports: ReplicationPorts,
    journal: RelationshipJournal,
    turn: CheckpointTurn,
    groups: HostGroups,
    emit: (event: ReplicationEvent) => void,
  ) {
    const { state } = journal.record;
    this.#ports = ports;
    this.#journal = journal;
    this.#emit = emit;
    this.#limits = { ...DEFAULT_REPLICATION_LIMITS, ...ports.limits };
    this.#history = new CycleHistory(this.#limits.historyLength);
    const { drainLimitMs, drainLimitMaxMs } = this.#limits;
    this.#timeBox = new GateTimeBox(drainLimitMs, drainLimitMaxMs, turn, this.#pauses);
    this.#groups = groups;
    this.#group = this.#joinGroup();
    this.#schedule = this.#newSchedule();
    this.#announced = state;
  }

  get state(): RelationshipState {
    return this.#blocked ? "error" : this.#journal.record.state;
  }

  get vmId(): string {
    return this.#journal.record.settings.vmId;
  }

  get settings(): RelationshipSettings {
    return this.#journal.record.settings;
  }

  get recentCycles(): readonly CycleReport[] {
    return this.#history.reports;
  }

  /** Begins to work unless suspended. */
  start(): void {
    if (this.#loop !== null || this.state === "suspended") return;
    const stop = new AbortController();
    this.#mustAsk = true;
    this.#loop = { stop, ended: this.#run(stop.signal) };
  }

  /** Ends cleanly: what is under way is given back, the state stays as it is. */
  stop(): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      await this.#disconnect();
    });
  }

  suspend(): Promise<void> {
    return this.#serialized(async () => {
      if (this.state === "suspended") return;
      this.#next("suspend");
      await this.#halt();
      await this.#note("suspended");
    });
  }

  /** Goes on after suspend, or tries again at once what failed. */
  resume(): Promise<void> {
    return this.#serialized(async () => {
      if (this.state !== "suspended" && this.state !== "error") return;
      await this.#halt();
      if (this.state === "suspended") await this.#note(this.#next("resume"));
      this.start();
    });
  }

  /** Null: none. The cycle that is under way is given back, and its changes travel with the next. */
  setGroup(group: string | null): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      await this.#journal.refresh();
      const { settings } = this.#journal.record;
      await this.#journal.update({ settings: { ...settings, group: group ?? undefined } });
      this.#group?.leave();
      this.#group = this.#joinGroup();
      this.#schedule = this.#newSchedule();
      this.start();
    });
  }

  /**
   * Ends the relationship; the replica keeps its points. Noted in an order in
   * which an interruption leaves something that can be removed again, and never
   * a relationship that trusts bits which are gone.
   */
  remove(): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      await this.#journal.refresh();
      const forgotten = { headPointId: null, inDoubt: null, stagingSessionId: null };
      await this.#journal.update({ ...forgotten, state: "suspended", allocationMarked: false });
      await this.#removeTarget();
      await this.#journal.delete();
      this.#group?.leave();
      await this.#disconnect();
    });
  }

  async status(): Promise<RelationshipStatus> {
    const { settings, headPointId } = this.#journal.record;
    const progress = await this.#context?.tracker.progress(settings.targetId).catch(() => null);
    const lagMs =
      this.#validUntilMs === null
        ? null
        : Math.max(0, this.#ports.clock.nowMs() - this.#validUntilMs);
    const { health, reasons } = judgeHealth({
      state: this.state,
      errorMessage: this.#lastError?.message ?? null,
      failuresInARow: this.#failuresInARow,
      lagMs,
      intervalMs: settings.intervalMs,
      grownDrainLimitMs: this.#timeBox.hasGrown
        ? this.#timeBox.limitMs
        : this.#groups.grownDrainLimitMs(settings.group ?? null),
    });
    return {
      settings,
      state: this.state,
      health,
      healthReasons: reasons,
      headPointId,
      cycleCount: this.#history.cycleCount,
      missedCycleCount: this.#history.missedCount,
      pendingBytes: progress?.pendingBytes ?? 0,
      suspectBytes: progress?.suspectBytes ?? 0,
      suspicionCauses: progress?.suspicionCauses ?? [],
      lastHealing: this.#lastHealing,
      lagMs,
      lastCycle: this.#history.last,
      lastError: this.#lastError,
      pauses: this.#pauses.summary(),
      initialProgress: headPointId === null ? this.#progress : null,
    };
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (await this.#foundSuspended()) return;
        await this.#advance(signal);
        this.#failuresInARow = 0;
        this.#lastError = null;
      } catch (thrown) {
        if (signal.aborted) return;
        await this.#afterFailure(thrown, signal);
      }
    }
  }

  /** A note whose answer was lost may turn out to be a suspension. */
  async #foundSuspended(): Promise<boolean> {
    await this.#journal.refresh();
    if (this.#journal.record.state !== "suspended") return false;
    this.#blocked = false;
    this.#announceState();
    return true;
  }

  async #advance(signal: AbortSignal): Promise<void> {
    const context = await this.#connect();
    await endOrphans(context);
    if (this.#mustAsk || this.#journal.record.inDoubt !== null) {
      await this.#prepare(context, signal);
    }
    if (this.state === "replicating") {
      if (this.#failuresInARow === 0) this.#group?.expect(true);
      const missed = await this.#schedule.wait(signal);
      if (missed > 0) this.#countMissed(missed, "the cycle before it was still under way");
    }
    await this.#cycle(context, signal).catch((thrown: unknown) => {
      if (this.#hasPoint() && !signal.aborted) this.#countMissed(1, reasonOf(thrown));
      throw thrown;
    });
  }

  async #prepare(context: RelationshipContext, signal: AbortSignal): Promise<void> {
    if (this.#journal.record.state === "ready") {
      await this.#journal.update({ state: this.#next("begin") });
      this.#announceState();
    }
    await markAllocatedOnce(context);
    await addLostTarget(context);
    const head = await reconcile(context, signal);
    this.#takeHead(head);
    this.#mustAsk = false;
    this.#blocked = false;
    this.#announceState();
  }

  async #cycle(context: RelationshipContext, signal: AbortSignal): Promise<void> {
    const startedAtMs = this.#ports.clock.nowMs();
    const startedMs = this.#ports.clock.monotonicMs();
    const { headPointId } = this.#journal.record;
    const healing = await healSuspects(context, signal);
    const drained = (await this.#needsDrain(context))
      ? await this.#drain(context, signal)
      : { changedBytes: 0, sentBytes: 0 };
    const outcome = await runPointCycle(context, signal);
    this.#brokenCaptures = 0;
    this.#takeHead(outcome.point);
    if (headPointId === null) this.#schedule.restart();
    this.#announceState();
    const durationMs = this.#ports.clock.monotonicMs() - startedMs;
    this.#report(outcome, drained, {
      kind: headPointId === null ? "initial" : "cycle",
      startedAtMs,
      durationMs,
      healing,
    });
  }

  /** May take long: the group goes on without this VM meanwhile. */
  #drain(context: RelationshipContext, signal: AbortSignal): Promise<DrainTotals> {
    this.#group?.expect(false);
    return drainToStaging(context, this.#brokenCaptures, signal);
  }

  async #needsDrain({ tracker, targetId }: RelationshipContext): Promise<boolean> {
    const { headPointId, stagingSessionId } = this.#journal.record;
    if (headPointId === null || stagingSessionId !== null || this.#brokenCaptures > 0) return true;
    return (await tracker.progress(targetId)).pendingBytes > this.#limits.captureBytes;
  }

  #report(
    { point, isNew, changes, sentBytes }: PointOutcome,
    drained: DrainTotals,
    times: Pick<CycleReport, "kind" | "startedAtMs" | "durationMs" | "healing">,
  ): void {
    const report: CycleReport = {
      ...times,
      cutSequence: changes.cut.sequence,
      pointId: isNew ? point.pointId : null,
      changedBytes: drained.changedBytes + changes.dirtyBytes,
      sentBytes: drained.sentBytes + sentBytes,
      pauseNs: changes.cut.pauseNs,
      requestsInFlight: changes.cut.requestsInFlight,
      lagMs: Math.max(0, this.#ports.clock.nowMs() - changes.cut.takenAtMs),
      ...(changes.cut.group === undefined ? {} : { group: changes.cut.group }),
    };
    this.#history.add(report);
    this.#emit({ type: "cycle", vmId: this.vmId, report });
  }

  #takeHead(head: RecoveryPoint | null): void {
    this.#validUntilMs = head?.validUntilMs ?? null;
  }

  async #afterFailure(thrown: unknown, signal: AbortSignal): Promise<void> {
    const error = toTidemarkError(thrown instanceof CheckpointMissed ? thrown.cause : thrown);
    this.#failuresInARow += 1;
    // A cut that all of the group missed is nobody's in particular.
    if (!(thrown instanceof CheckpointMissed)) this.#group?.expect(false);
    if (error.code === "CAPTURE_BROKEN") this.#brokenCaptures += 1;
    if (error.code === "STAGING_LOST" || error.code === "PARENT_MISMATCH") this.#mustAsk = true;
    const retryable = error.retryable || error.code === "PARENT_MISMATCH";
    await (retryable ? this.#tryAgainSoon(error, signal) : this.#block(error, signal)).catch(
      (interruption: unknown) => {
        if (!signal.aborted) throw interruption;
      },
    );
  }

  async #tryAgainSoon(error: TidemarkError, signal: AbortSignal): Promise<void> {
    this.#setError(error, null);
    await backOff({ ...this.#ports, ...this.#randomAndLimits() }, this.#failuresInARow, signal);
  }

  async #block(error: TidemarkError, signal: AbortSignal): Promise<void> {
    const { clock } = this.#ports;
    this.#mustAsk = true;
    this.#blocked = nextState(this.state, "fail", this.#hasPoint()) === "error";
    this.#setError(error, clock.nowMs() + this.#limits.errorRetryMs);
    this.#announceState();
    await clock.sleep(this.#limits.errorRetryMs, signal);
  }

  #setError(error: TidemarkError, retryAtMs: number | null): void {
    const { code, message, hint, retryable } = error;
    this.#lastError = { code, message, hint: hint ?? null, retryable, retryAtMs };
    this.#emit({ type: "error", vmId: this.vmId, error: this.#lastError });
  }

  #countMissed(count: number, reason: string): void {
    this.#history.missedCount += count;
    this.#emit({ type: "missed", vmId: this.vmId, reason });
  }

  #announceState(): void {
    if (this.state === this.#announced) return;
    this.#announced = this.state;
    this.#emit({ type: "state", vmId: this.vmId, state: this.state });
  }

  #hasPoint(): boolean {
    return this.#journal.record.headPointId !== null;
  }

  #next(event: RelationshipEvent): RelationshipState {
    const next = nextState(this.state, event, this.#hasPoint());
    if (next !== null) return next;
    throw new TidemarkError(
      "CONFLICT",
      `Cannot ${event} the replication: because its state is ${this.state}.`,
    );
  }

  /** Durable when it resolves; goes on as before when it cannot be noted. */
  async #note(state: RelationshipState): Promise<void> {
    try {
      await this.#journal.insist({ state });
    } catch (thrown) {
      this.start();
      throw thrown;
    }
    this.#blocked = false;
    this.#announceState();
  }

  async #halt(): Promise<void> {
    const loop = this.#loop;
    if (loop === null) return;
    loop.stop.abort(new TidemarkError("CANCELLED", "Replication is being stopped."));
    this.#group?.expect(false);
    await loop.ended;
    this.#loop = null;
  }

  #joinGroup(): GroupMember | null {
    const { group, intervalMs } = this.#journal.record.settings;
    if (group === undefined) return null;
    const onPause = (pauseNs: number) => this.#pauses.record(pauseNs);
    return this.#groups.join(
      group,
      { vmId: this.vmId, timeBox: this.#timeBox, onPause },
      intervalMs,
    );
  }

  #newSchedule(): CycleSchedule {
    const { intervalMs } = this.#journal.record.settings;
    return new CycleSchedule(this.#ports.clock, intervalMs, this.#group !== null);
  }

  #serialized<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(work);
    this.#serial = result.catch(() => {});
    return result;
  }

  #randomAndLimits() {
    return { random: this.#ports.random ?? Math.random, limits: this.#limits };
  }

  /** A VM that is gone has no bits to remove. */
  async #removeTarget(): Promise<void> {
    try {
      const { tracker, targetId } = await this.#connect();
      await tracker.removeTarget(targetId);
    } catch (thrown) {
      if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
    }
  }

  async #disconnect(): Promise<void> {
    await this.#endpoint?.[Symbol.asyncDispose]?.();
    this.#endpoint = null;
    this.#context = null;
  }

  async #connect(): Promise<RelationshipContext> {
    if (this.#context !== null) return this.#context;
    const { name, tracker } = await this.#ports.openVm(this.vmId);
    const { settings } = this.#journal.record;
    this.#endpoint ??= this.#ports.openReplica(settings);
    this.#context = {
      ...this.#randomAndLimits(),
      vm: {
        vmId: this.vmId,
        name,
        // They may grow.
        get disks() {
          return tracker.disks;
        },
      },
      targetId: settings.targetId,
      tracker,
      endpoint: this.#endpoint,
      journal: this.#journal,
      clock: this.#ports.clock,
      timeBox: this.#timeBox,
      group: () => this.#group,
      orphans: new Set(),
      onRetry: (error) => this.#setError(error, null),
      onHealing: (report) => {
        this.#lastHealing = report;
        this.#group?.expect(false);
        this.#emit({ type: "healing", vmId: this.vmId, report });
      },
      onStagingProgress: (sentBytes, totalBytes) => {
        this.#progress = { sentBytes, totalBytes };
        this.#emit({ type: "initial-progress", vmId: this.vmId, sentBytes, totalBytes });
      },
    };
    return this.#context;
  }
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
