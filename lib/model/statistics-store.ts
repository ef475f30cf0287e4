import { addBuckets, emptyBucket, type HistoryBucket, spanBeginMs } from "./replication-history.js";

/** How long what is kept. */
export interface HistoryLimits {
  /** Buckets of single cycles. */
  readonly cyclesKeptMs: number;
  readonly cyclesKeptCount: number;
  /** Sums of this span are kept longer. */
  readonly spanMs: number;
  readonly spansKeptMs: number;
}

const DAY_MS = 86_400_000;

export const DEFAULT_HISTORY_LIMITS: HistoryLimits = {
  cyclesKeptMs: DAY_MS,
  cyclesKeptCount: 20_000,
  spanMs: 300_000,
  spansKeptMs: 31 * DAY_MS,
};

export interface VmStatisticsUpdate {
  readonly vmId: string;
  /** JSON: where its counters stand. */
  readonly counters: unknown;
  /** New ones, of one instant each. */
  readonly buckets: readonly HistoryBucket[];
}

export interface HistoryQuery {
  readonly fromMs: number;
  readonly untilMs: number;
  /** 0: single cycles; else the store's span. */
  readonly spanMs: number;
}

/**
 * Statistics and their history, kept over restarts. Losing the last seconds with the
 * power is no harm, so nothing of it is synced on replication's way.
 * broker/ implements it on SQLite; below is one in memory. Contract suite:
 * test/contracts/statistics-store.ts.
 */
export interface StatisticsStore {
  readonly limits: HistoryLimits;
  /** All or nothing. What is past the limits goes. */
  save(updates: readonly VmStatisticsUpdate[], nowMs: number): Promise<void>;
  /** The counters as last saved; null when there are none. */
  counters(vmId: string): Promise<unknown>;
  /** Oldest first; the last span may be still growing. */
  history(vmId: string, query: HistoryQuery): Promise<readonly HistoryBucket[]>;
  forget(vmId: string): Promise<void>;
  close(): Promise<void>;
}

export class MemoryStatisticsStore implements StatisticsStore {
  readonly limits: HistoryLimits;
  readonly #counters = new Map<string, string>();
  readonly #cycles = new Map<string, HistoryBucket[]>();
  readonly #spans = new Map<string, Map<number, HistoryBucket>>();

  constructor(limits: HistoryLimits = DEFAULT_HISTORY_LIMITS) {
    this.limits = limits;
  }

  async save(updates: readonly VmStatisticsUpdate[], nowMs: number): Promise<void> {
    const { cyclesKeptMs, cyclesKeptCount, spansKeptMs } = this.limits;
    for (const { vmId, counters, buckets } of updates) {
      this.#counters.set(vmId, JSON.stringify(counters));
      const cycles = [...(this.#cycles.get(vmId) ?? []), ...buckets]
        .sort((left, right) => left.atMs - right.atMs)
        .filter(({ atMs }) => atMs > nowMs - cyclesKeptMs);
      this.#cycles.set(vmId, cycles.slice(-cyclesKeptCount));
      const spans = this.#spans.get(vmId) ?? new Map<number, HistoryBucket>();
      for (const bucket of buckets) this.#addToSpan(spans, bucket);
      for (const atMs of spans.keys()) if (atMs <= nowMs - spansKeptMs) spans.delete(atMs);
      this.#spans.set(vmId, spans);
    }
  }

  async counters(vmId: string): Promise<unknown> {
    const text = this.#counters.get(vmId);
    return text === undefined ? null : (JSON.parse(text) as unknown);
  }

  async history(
    vmId: string,
    { fromMs, untilMs, spanMs }: HistoryQuery,
  ): Promise<readonly HistoryBucket[]> {
    const all =
      spanMs === 0 ? (this.#cycles.get(vmId) ?? []) : [...(this.#spans.get(vmId)?.values() ?? [])];
    return all
      .filter(({ atMs }) => atMs >= fromMs && atMs < untilMs)
      .sort((left, right) => left.atMs - right.atMs);
  }

  async forget(vmId: string): Promise<void> {
    this.#counters.delete(vmId);
    this.#cycles.delete(vmId);
    this.#spans.delete(vmId);
  }

  async close(): Promise<void> {}

  #addToSpan(spans: Map<number, HistoryBucket>, bucket: HistoryBucket): void {
    const { spanMs } = this.limits;
    const atMs = spanBeginMs(bucket.atMs, spanMs);
    spans.set(atMs, addBuckets(spans.get(atMs) ?? emptyBucket(atMs, spanMs), bucket));
  }
}
