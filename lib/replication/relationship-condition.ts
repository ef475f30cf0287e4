/** How one relationship stands: its state, what was seen of it since the start, its health. */
import type { Clock } from "../model/clock.js";
import { TidemarkError } from "../model/errors.js";
import type { ComparisonReport } from "../model/replica-comparison.js";
import { PauseHistogram } from "../model/pause-histogram.js";
import type {
  ApplicationConsistencyStatus,
  CycleReport,
  HealingReport,
  RelationshipError,
  RelationshipNews,
  RelationshipState,
  RelationshipStatus,
} from "../model/relationship.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { TargetProgress } from "../model/vm-tracker.js";
import { addDiskBytes } from "./changed-by-disk.js";
import { CycleHistory } from "./cycle-history.js";
import { CycleMonitor } from "./cycle-monitor.js";
import type { DrainTotals } from "./drain-to-staging.js";
import { firstCopyStatus } from "./first-copy-status.js";
import { refuseEnding } from "./ending.js";
import { judgeHealth } from "./health.js";
import type { PointOutcome } from "./point-cycle.js";
import { ProgressMeter } from "./progress-meter.js";
import { relationshipError } from "./relationship-error.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import { nextState, type RelationshipEvent } from "./transitions.js";

/** What only the running relationship can tell. */
export interface LiveFacts {
  readonly progress: TargetProgress | null;
  /** Set when the gate's time box grew: how long it is now. */
  readonly grownDrainLimitMs: number | null;
  /** With the replica, by order, since the start. */
  readonly comparison: ComparisonReport | null;
  readonly applications: ApplicationConsistencyStatus | null;
}

/** States that are found anew after a restart; in the journal it is "replicating", or what was before an error. */
type FoundState = Extract<
  RelationshipState,
  "error" | "resynchronization-required" | "resynchronizing"
>;

const FOUND_STATES: readonly RelationshipState[] = [
  "error",
  "resynchronization-required",
  "resynchronizing",
] satisfies readonly FoundState[];

export class RelationshipCondition {
  readonly pauses = new PauseHistogram();
  readonly #journal: RelationshipJournal;
  readonly #clock: Clock;
  readonly #emit: (news: RelationshipNews) => void;
  readonly #history: CycleHistory;
  #announced: RelationshipState;
  readonly #monitor: CycleMonitor;
  readonly #meter: ProgressMeter;
  #found: FoundState | null = null;
  #waitsUntilMs: number | null = null;
  #lastError: RelationshipError | null = null;
  #failuresInARow = 0;
  #validUntilMs: number | null = null;
  #lastHealing: HealingReport | null = null;

  constructor(
    journal: RelationshipJournal,
    clock: Clock,
    historyLength: number,
    emit: (news: RelationshipNews) => void,
  ) {
    this.#journal = journal;
    this.#clock = clock;
    this.#emit = emit;
    this.#history = new CycleHistory(historyLength);
    this.#monitor = new CycleMonitor(clock);
    this.#meter = new ProgressMeter(clock);
    this.#announced = journal.record.state;
  }

  get state(): RelationshipState {
    return this.#found ?? this.#journal.record.state;
  }

  get hasPoint(): boolean {
    return this.#journal.record.headPointId !== null;
  }

  get failuresInARow(): number {
    return this.#failuresInARow;
  }

  get recentCycles(): readonly CycleReport[] {
    return this.#history.reports;
  }

  /** Where the event leads; CONFLICT when it does not fit the state. */
  next(event: RelationshipEvent): RelationshipState {
    refuseEnding(this.#journal.record, event);
    const next = nextState(this.state, event, this.hasPoint);
    if (next !== null) return next;
    throw new TidemarkError(
      "CONFLICT",
      `Cannot ${event} the replication: because its state is ${this.state}.`,
    );
  }

  /** Where the event leads of itself; nowhere when it does not fit the state. */
  take(event: "fail" | "defer" | "compare" | "healed", waitsUntilMs: number | null = null): void {
    const next = nextState(this.state, event, this.hasPoint);
    if (next === null) return;
    this.#found = isFound(next) ? next : null;
    this.#waitsUntilMs = waitsUntilMs;
    this.announce();
  }

  /** The state is that of the journal again. */
  settle(): void {
    this.#found = null;
    this.#waitsUntilMs = null;
    this.announce();
  }

  /** Another rhythm, by which cycles count as missed. */
  setInterval(intervalMs: number): void {
    this.#monitor.setInterval(intervalMs);
  }

  /** Tells of the state when it is another one than was told last. */
  announce(): void {
    if (this.state === this.#announced) return;
    this.#announced = this.state;
    this.#emit({ type: "state", state: this.state });
  }

  noteFailure(): void {
    this.#failuresInARow += 1;
  }

  noteSuccess(): void {
    this.#failuresInARow = 0;
    this.#lastError = null;
  }

  noteError(error: TidemarkError, retryAtMs: number | null): void {
    this.#lastError = relationshipError(error, retryAtMs);
    this.#emit({ type: "error", error: this.#lastError });
  }

  forgetMissed(): void {
    this.#monitor.reset();
  }

  noteMissed(count: number, reason: string): void {
    this.#history.missedCount += count;
    this.#monitor.missed(count);
    this.#emit({ type: "missed", count, reason });
  }

  noteHead(head: RecoveryPoint | null): void {
    this.#validUntilMs = head?.validUntilMs ?? null;
  }

  noteHealing(report: HealingReport): void {
    this.#lastHealing = report;
    this.#emit({ type: "healing", report });
  }

  noteInitialProgress(sentBytes: number, totalBytes: number): void {
    this.#meter.note(sentBytes, totalBytes);
    this.#emit({ type: "initial-progress", sentBytes, totalBytes });
  }

  noteCycle(
    { point, isNew, changes, diskChangedBytes, sentBytes, unchangedBytes }: PointOutcome,
    drained: DrainTotals,
    times: Pick<CycleReport, "kind" | "startedAtMs" | "durationMs" | "healing">,
  ): void {
    const report: CycleReport = {
      ...times,
      cutSequence: changes.cut.sequence,
      consistency: changes.cut.consistency,
      pointId: isNew ? point.pointId : null,
      changedBytes: drained.changedBytes + changes.dirtyBytes,
      diskChangedBytes: addDiskBytes(drained.diskChangedBytes, diskChangedBytes),
      sentBytes: drained.sentBytes + sentBytes,
      unchangedBytes,
      pauseNs: changes.cut.pauseNs,
      requestsInFlight: changes.cut.requestsInFlight,
      lagMs: Math.max(0, this.#clock.nowMs() - changes.cut.takenAtMs),
      ...(changes.cut.group === undefined ? {} : { group: changes.cut.group }),
    };
    this.#history.add(report);
    this.#monitor.done(report.durationMs);
    this.#emit({ type: "cycle", report });
  }

  status({ progress, grownDrainLimitMs, comparison, applications }: LiveFacts): RelationshipStatus {
    const { settings, headPointId, lastComparison, isEnding = false } = this.#journal.record;
    const suspectBytes = progress?.suspectBytes ?? 0;
    const { health, reasons } = judgeHealth({
      state: this.state,
      isEnding,
      errorMessage: this.#lastError?.message ?? null,
      failuresInARow: this.#failuresInARow,
      lagMs: this.#lagMs,
      intervalMs: settings.intervalMs,
      suspectBytes,
      waitsUntilMs: this.#waits,
      cycles: this.#monitor.summary(),
      grownDrainLimitMs,
      applications,
      untrackedReason: progress?.untrackedReason,
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
      suspectBytes,
      suspicionCauses: progress?.suspicionCauses ?? [],
      lastHealing: this.#lastHealing,
      comparison: comparison ?? lastComparison ?? null,
      lagMs: this.#lagMs,
      lastCycle: this.#history.last,
      lastError: this.#lastError,
      applicationConsistency: applications,
      pauses: this.pauses.summary(),
      waitsUntilMs: this.#waits,
      firstCopy: firstCopyStatus(this.#journal.record),
      initialProgress: headPointId === null ? this.#meter.progress() : null,
    };
  }

  get #waits(): number | null {
    const { initialStartAtMs } = this.#journal.record;
    return this.state === "ready" ? initialStartAtMs || null : this.#waitsUntilMs;
  }

  get #lagMs(): number | null {
    if (this.#validUntilMs === null) return null;
    return Math.max(0, this.#clock.nowMs() - this.#validUntilMs);
  }
}

function isFound(state: RelationshipState): state is FoundState {
  return FOUND_STATES.includes(state);
}
