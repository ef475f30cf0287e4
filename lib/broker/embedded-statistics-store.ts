import type Database from "better-sqlite3";
import {
  addBuckets,
  emptyBucket,
  type HistoryBucket,
  spanBeginMs,
} from "../model/replication-history.js";
import {
  DEFAULT_HISTORY_LIMITS,
  type HistoryLimits,
  type HistoryQuery,
  type StatisticsStore,
  type VmStatisticsUpdate,
} from "../model/statistics-store.js";
import { SqliteFile, type SqliteLayout } from "./sqlite-file.js";

const LAYOUT: SqliteLayout = {
  name: "statistics store",
  /** "TMsx". */
  applicationId: 0x544d7378,
  version: 1,
  schema: `CREATE TABLE counters (vm_id TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)
     WITHOUT ROWID, STRICT;
   CREATE TABLE bucket (
     vm_id TEXT NOT NULL, span_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL,
     number INTEGER NOT NULL, value TEXT NOT NULL,
     PRIMARY KEY (vm_id, span_ms, at_ms, number)
   ) WITHOUT ROWID, STRICT;`,
  synchronous: "NORMAL",
};

/**
 * Statistics of a single host in an SQLite file of its own: WAL, not synced with every
 * commit, for losing the last of them costs nothing but themselves. A bucket is one row,
 * its numbers JSON; cycles (span 0) and sums stand in one table.
 */
export class EmbeddedStatisticsStore implements StatisticsStore {
  readonly limits: HistoryLimits;
  readonly #file: SqliteFile;

  private constructor(file: SqliteFile, limits: HistoryLimits) {
    this.#file = file;
    this.limits = limits;
  }

  /** Creates the file when it is missing. IN_USE, CORRUPT, FOREIGN, VERSION_UNKNOWN. */
  static open(path: string, limits = DEFAULT_HISTORY_LIMITS): EmbeddedStatisticsStore {
    return new EmbeddedStatisticsStore(SqliteFile.open(path, LAYOUT), limits);
  }

  async save(updates: readonly VmStatisticsUpdate[], nowMs: number): Promise<void> {
    this.#file.write((database) => {
      for (const update of updates) this.#saveOne(database, update, nowMs);
    });
  }

  async counters(vmId: string): Promise<unknown> {
    return this.#file.read((database) => {
      const row = database
        .prepare<[string], { value: string }>("SELECT value FROM counters WHERE vm_id = ?")
        .get(vmId);
      return row === undefined ? null : (JSON.parse(row.value) as unknown);
    });
  }

  async history(
    vmId: string,
    { fromMs, untilMs, spanMs }: HistoryQuery,
  ): Promise<readonly HistoryBucket[]> {
    return this.#file.read((database) =>
      database
        .prepare<[string, number, number, number], { value: string }>(
          `SELECT value FROM bucket
           WHERE vm_id = ? AND span_ms = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms, number`,
        )
        .all(vmId, spanMs, fromMs, untilMs)
        .map(({ value }) => JSON.parse(value) as HistoryBucket),
    );
  }

  async forget(vmId: string): Promise<void> {
    this.#file.write((database) => {
      database.prepare("DELETE FROM counters WHERE vm_id = ?").run(vmId);
      database.prepare("DELETE FROM bucket WHERE vm_id = ?").run(vmId);
    });
  }

  async close(): Promise<void> {
    this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #saveOne(
    database: Database.Database,
    { vmId, counters, buckets }: VmStatisticsUpdate,
    nowMs: number,
  ): void {
    database
      .prepare("INSERT OR REPLACE INTO counters (vm_id, value) VALUES (?, ?)")
      .run(vmId, JSON.stringify(counters));
    for (const bucket of buckets) {
      insertCycle(database, vmId, bucket);
      addToSpan(database, vmId, bucket, this.limits.spanMs);
    }
    prune(database, vmId, this.limits, nowMs);
  }
}

/** Two of one millisecond are numbered. */
function insertCycle(database: Database.Database, vmId: string, bucket: HistoryBucket): void {
  database
    .prepare(
      `INSERT INTO bucket (vm_id, span_ms, at_ms, number, value)
       SELECT ?, 0, ?, coalesce(max(number), 0) + 1, ? FROM bucket
       WHERE vm_id = ? AND span_ms = 0 AND at_ms = ?`,
    )
    .run(vmId, bucket.atMs, JSON.stringify(bucket), vmId, bucket.atMs);
}

function addToSpan(
  database: Database.Database,
  vmId: string,
  bucket: HistoryBucket,
  spanMs: number,
): void {
  const atMs = spanBeginMs(bucket.atMs, spanMs);
  const row = database
    .prepare<[string, number, number], { value: string }>(
      "SELECT value FROM bucket WHERE vm_id = ? AND span_ms = ? AND at_ms = ?",
    )
    .get(vmId, spanMs, atMs);
  const before =
    row === undefined ? emptyBucket(atMs, spanMs) : (JSON.parse(row.value) as HistoryBucket);
  database
    .prepare(
      "INSERT OR REPLACE INTO bucket (vm_id, span_ms, at_ms, number, value) VALUES (?, ?, ?, 0, ?)",
    )
    .run(vmId, spanMs, atMs, JSON.stringify(addBuckets(before, bucket)));
}

function prune(
  database: Database.Database,
  vmId: string,
  { cyclesKeptMs, cyclesKeptCount, spanMs, spansKeptMs }: HistoryLimits,
  nowMs: number,
): void {
  const older = database.prepare(
    "DELETE FROM bucket WHERE vm_id = ? AND span_ms = ? AND at_ms <= ?",
  );
  older.run(vmId, 0, nowMs - cyclesKeptMs);
  older.run(vmId, spanMs, nowMs - spansKeptMs);
  database
    .prepare(
      `DELETE FROM bucket WHERE vm_id = ? AND span_ms = 0 AND (at_ms, number) <= (
         SELECT at_ms, number FROM bucket WHERE vm_id = ? AND span_ms = 0
         ORDER BY at_ms DESC, number DESC LIMIT 1 OFFSET ?
       )`,
    )
    .run(vmId, vmId, cyclesKeptCount);
}
