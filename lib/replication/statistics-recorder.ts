import type { Clock } from "../model/clock.js";
import type { ErrorCode } from "../model/errors.js";
import type { CycleReport, ReplicationEvent } from "../model/relationship.js";
import { emptyBucket, type HistoryBucket } from "../model/replication-history.js";
import type { TestFailoverReport } from "../model/test-failover.js";
import type { HistoryLimits, HistoryQuery, StatisticsStore } from "../model/statistics-store.js";
import {
  IntervalStatistics,
  type IntervalState,
  type IntervalSummary,
} from "./interval-statistics.js";
import { type MonitoringSettings, windowBeginMs } from "./monitoring-window.js";

export interface StatisticsRecorderOptions {
  readonly store: StatisticsStore;
  readonly clock: Clock;
  readonly monitoring: () => MonitoringSettings;
  /** How often what was counted is saved. Default 10 s. */
  readonly saveIntervalMs?: number;
  /** That it cannot be saved; replication goes on. */
  readonly onWarning?: (message: string) => void;
}

export interface VmStatistics {
  /** Since the monitoring interval began, or since they were reset. */
  readonly current: IntervalSummary;
  /** The monitoring interval before. */
  readonly previous: IntervalSummary | null;
  readonly initialReplicationBytes: number | null;
  readonly lastCycleAtMs: number | null;
  /** When one last began. */
  readonly lastTestFailoverAtMs: number | null;
  /** The one that ended last. */
  readonly lastTestFailover: TestFailoverReport | null;
}

/** What is kept over a restart. */
interface Saved extends Omit<VmStatistics, "current"> {
  readonly current: IntervalState;
}

interface Entry {
  current: IntervalStatistics;
  previous: IntervalSummary | null;
  initialReplicationBytes: number | null;
  lastCycleAtMs: number | null;
  lastTestFailoverAtMs: number | null;
  lastTestFailover: TestFailoverReport | null;
  buckets: HistoryBucket[];
  isChanged: boolean;
}

const SAVE_INTERVAL_MS = 10_000;
const NETWORK_CODES: ReadonlySet<string> = new Set<ErrorCode>(["UNREACHABLE", "TIMED_OUT"]);

/**
 * Counts what the engine tells, a monitoring interval at a time, and keeps its history: of each
 * VM, by its id, and of each of its further targets by the target's.
 * Counting is a few additions; saving is done now and then, for all VMs at once.
 */
export class StatisticsRecorder implements AsyncDisposable {
  readonly #options: StatisticsRecorderOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #saving: Promise<void> = Promise.resolve();

  private constructor(options: StatisticsRecorderOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Goes on from what was saved of these VMs. */
  static async open(
    options: StatisticsRecorderOptions,
    vmIds: readonly string[],
  ): Promise<StatisticsRecorder> {
    const recorder = new StatisticsRecorder(options);
    for (const vmId of vmIds) await recorder.#load(vmId);
    return recorder;
  }

  get limits(): HistoryLimits {
    return this.#options.store.limits;
  }

  listen(event: ReplicationEvent): void {
    const id = event.targetId ?? event.vmId;
    if (event.type === "cycle") this.#countCycle(id, event.report);
    if (event.type === "missed") {
      const entry = this.#entry(id);
      entry.current.countMissed(event.count);
      this.#add(entry, { missedCount: event.count });
    }
    if (event.type === "freeze-failed") {
      const entry = this.#entry(id);
      entry.current.countFreezeFailure();
      entry.isChanged = true;
    }
    if (event.type === "error") {
      const entry = this.#entry(id);
      const isOfNetwork = NETWORK_CODES.has(event.error.code);
      entry.current.countError(isOfNetwork);
      this.#add(entry, { errorCount: 1, networkErrorCount: isOfNetwork ? 1 : 0 });
    }
  }

  /** On the replica, whose VMs have no events. */
  async noteTestFailover(vmId: string): Promise<void> {
    await this.#load(vmId);
    const entry = this.#entry(vmId);
    entry.lastTestFailoverAtMs = this.#options.clock.nowMs();
    entry.isChanged = true;
  }

  /** Saved soon, as what was counted is. */
  async noteTestFailoverEnd(vmId: string, report: TestFailoverReport): Promise<void> {
    await this.#load(vmId);
    const entry = this.#entry(vmId);
    entry.lastTestFailover = report;
    entry.isChanged = true;
  }

  async statistics(vmId: string): Promise<VmStatistics> {
    await this.#load(vmId);
    const entry = this.#entry(vmId);
    const { previous, initialReplicationBytes, lastCycleAtMs } = entry;
    const { lastTestFailoverAtMs, lastTestFailover } = entry;
    const tests = { lastTestFailoverAtMs, lastTestFailover };
    const current = entry.current.summary(this.#options.clock.nowMs());
    return { current, previous, initialReplicationBytes, lastCycleAtMs, ...tests };
  }

  /** The interval begins anew; the history stays. */
  async reset(vmId: string): Promise<void> {
    await this.#load(vmId);
    const entry = this.#entry(vmId);
    entry.current = IntervalStatistics.begin(this.#options.clock.nowMs());
    entry.previous = null;
    entry.isChanged = true;
    await this.save();
  }

  async history(vmId: string, query: HistoryQuery): Promise<readonly HistoryBucket[]> {
    await this.save();
    return this.#options.store.history(vmId, query);
  }

  /** With its history. */
  async forget(vmId: string): Promise<void> {
    await this.#saving;
    this.#entries.delete(vmId);
    await this.#options.store.forget(vmId);
  }

  /** What was counted by now is saved when it resolves. */
  save(): Promise<void> {
    const saved = this.#saving.then(() => this.#saveChanged());
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.save().catch((thrown: unknown) => this.#warn(thrown));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run(): Promise<void> {
    const { clock, saveIntervalMs = SAVE_INTERVAL_MS } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await clock.sleep(saveIntervalMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.save().catch((thrown: unknown) => this.#warn(thrown));
    }
  }

  async #saveChanged(): Promise<void> {
    const changed = [...this.#entries].filter(([, { isChanged }]) => isChanged);
    if (changed.length === 0) return;
    const updates = changed.map(([vmId, entry]) => {
      const { buckets } = entry;
      entry.isChanged = false;
      entry.buckets = [];
      return { vmId, counters: savedOf(entry), buckets };
    });
    try {
      await this.#options.store.save(updates, this.#options.clock.nowMs());
    } catch (thrown) {
      for (const { vmId, buckets } of updates) {
        const entry = this.#entries.get(vmId);
        if (entry === undefined) continue;
        entry.isChanged = true;
        entry.buckets = [...buckets, ...entry.buckets].slice(
          -this.#options.store.limits.cyclesKeptCount,
        );
      }
      throw thrown;
    }
  }

  #countCycle(vmId: string, report: CycleReport): void {
    const entry = this.#entry(vmId);
    entry.current.countCycle(report);
    entry.lastCycleAtMs = this.#options.clock.nowMs();
    if (report.kind === "initial") entry.initialReplicationBytes = report.changedBytes;
    const { changedBytes, sentBytes, unchangedBytes } = report;
    const { durationMs, lagMs, pauseNs, diskChangedBytes = {} } = report;
    this.#add(entry, {
      cycleCount: 1,
      changedBytes,
      sentBytes,
      unchangedBytes,
      durationTotalMs: durationMs,
      durationMaxMs: durationMs,
      lagTotalMs: lagMs,
      lagMaxMs: lagMs,
      pauseTotalNs: pauseNs,
      pauseMaxNs: pauseNs,
      diskChangedBytes,
    });
  }

  #add(entry: Entry, parts: Partial<HistoryBucket>): void {
    entry.buckets.push({ ...emptyBucket(this.#options.clock.nowMs(), 0), ...parts });
    entry.isChanged = true;
  }

  /** In the monitoring interval that is now. */
  #entry(vmId: string): Entry {
    const nowMs = this.#options.clock.nowMs();
    const beginMs = windowBeginMs(nowMs, this.#options.monitoring());
    const known = this.#entries.get(vmId);
    if (known === undefined) {
      const entry = newEntry(nowMs);
      this.#entries.set(vmId, entry);
      return entry;
    }
    if (known.current.beginMs < beginMs) {
      known.previous = known.current.summary(beginMs);
      known.current = IntervalStatistics.begin(beginMs);
      known.isChanged = true;
    }
    return known;
  }

  async #load(vmId: string): Promise<void> {
    if (this.#entries.has(vmId)) return;
    const saved = (await this.#options.store.counters(vmId)) as Saved | null;
    if (saved === null || this.#entries.has(vmId)) return;
    const { current, ...facts } = saved;
    const entry = {
      ...facts,
      // Not saved by former versions.
      lastTestFailover: (facts as Partial<Saved>).lastTestFailover ?? null,
      current: IntervalStatistics.of(current),
      buckets: [],
      isChanged: false,
    };
    this.#entries.set(vmId, entry);
  }

  #warn(thrown: unknown): void {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    this.#options.onWarning?.(`Cannot save statistics: because ${why}`);
  }
}

function newEntry(beginMs: number): Entry {
  return {
    current: IntervalStatistics.begin(beginMs),
    previous: null,
    initialReplicationBytes: null,
    lastCycleAtMs: null,
    lastTestFailoverAtMs: null,
    lastTestFailover: null,
    buckets: [],
    isChanged: true,
  };
}

function savedOf({ current, buckets: _buckets, isChanged: _isChanged, ...facts }: Entry): Saved {
  return { ...facts, current: current.state() };
}
