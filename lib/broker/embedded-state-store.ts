import Database from "better-sqlite3";
import { TidemarkError } from "../model/errors.js";
import type { StateDocument, StateStore } from "../model/state-store.js";
import { storeError } from "./sqlite-errors.js";

/** "TMst": tells a state store from any other SQLite file. */
const APPLICATION_ID = 0x544d7374;
const SCHEMA_VERSION = 1;

interface Row {
  readonly key: string;
  readonly value: string;
  readonly version: number;
}

/**
 * The state store of a single host: one table in one SQLite file.
 *
 * The file is locked for as long as the store is open (SQLite's exclusive
 * locking mode), so two services cannot share it; the kernel frees the lock
 * with the process. WAL with synchronous=FULL: a put that resolved survives
 * power loss. The calls under the promises are synchronous: documents are a few
 * KiB and are written a few times a cycle.
 */
export class EmbeddedStateStore implements StateStore {
  readonly #path: string;
  readonly #database: Database.Database;

  private constructor(path: string, database: Database.Database) {
    this.#path = path;
    this.#database = database;
  }

  /** Creates the file when it is missing. IN_USE, CORRUPT, FOREIGN, VERSION_UNKNOWN. */
  static open(path: string): EmbeddedStateStore {
    let database: Database.Database | undefined;
    try {
      database = new Database(path, { timeout: 0 });
      prepare(database, path);
      return new EmbeddedStateStore(path, database);
    } catch (thrown) {
      database?.close();
      throw storeError("open", path, thrown);
    }
  }

  async get(key: string): Promise<StateDocument | null> {
    return this.#run("read", (database) => {
      const row = readRow(database, key);
      return row === undefined ? null : toDocument(row, this.#path);
    });
  }

  async list(prefix: string): Promise<readonly StateDocument[]> {
    return this.#run("read", (database) =>
      database
        .prepare<[string, string, string], Row>(
          `SELECT key, value, version FROM document
           WHERE key >= ? AND substr(key, 1, length(?)) = ? ORDER BY key`,
        )
        .all(prefix, prefix, prefix)
        .map((row) => toDocument(row, this.#path)),
    );
  }

  async put(key: string, value: unknown, expectedVersion?: number): Promise<number> {
    const text: unknown = JSON.stringify(value);
    if (typeof text !== "string") {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot store ${JSON.stringify(key)}: because its value has no JSON form.`,
      );
    }
    return this.#run("write", (database) =>
      database
        .transaction(() => {
          const version = (expectRow(database, key, expectedVersion)?.version ?? 0) + 1;
          database
            .prepare("INSERT OR REPLACE INTO document (key, value, version) VALUES (?, ?, ?)")
            .run(key, text, version);
          return version;
        })
        .immediate(),
    );
  }

  async delete(key: string, expectedVersion?: number): Promise<void> {
    this.#run("write", (database) =>
      database
        .transaction(() => {
          expectRow(database, key, expectedVersion);
          database.prepare("DELETE FROM document WHERE key = ?").run(key);
        })
        .immediate(),
    );
  }

  async close(): Promise<void> {
    this.#database.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #run<T>(verb: string, work: (database: Database.Database) => T): T {
    if (!this.#database.open) {
      throw new TidemarkError(
        "CLOSED",
        `Cannot ${verb} the state store: because it has been closed.`,
      );
    }
    try {
      return work(this.#database);
    } catch (thrown) {
      throw storeError(verb, this.#path, thrown);
    }
  }
}

/** Takes the lock, then checks or makes the schema. */
function prepare(database: Database.Database, path: string): void {
  database.pragma("locking_mode = EXCLUSIVE");
  database.exec("BEGIN EXCLUSIVE; COMMIT;");
  // Counts schema changes: 0 only before the transaction below has committed.
  const isNew = database.pragma("schema_version", { simple: true }) === 0;
  if (!isNew) refuseForeign(database, path);
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  if (isNew) {
    database.exec(
      `BEGIN;
       CREATE TABLE document (
         key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, version INTEGER NOT NULL
       ) WITHOUT ROWID, STRICT;
       PRAGMA application_id = ${APPLICATION_ID};
       PRAGMA user_version = ${SCHEMA_VERSION};
       COMMIT;`,
    );
  }
}

function refuseForeign(database: Database.Database, path: string): void {
  const applicationId = database.pragma("application_id", { simple: true });
  if (applicationId !== APPLICATION_ID) {
    throw new TidemarkError(
      "FOREIGN",
      `Cannot open ${path}: because it is a SQLite file but no Tidemark state store.`,
      { hint: "Name another file, or move this one away." },
    );
  }
  const version = database.pragma("user_version", { simple: true });
  if (version !== SCHEMA_VERSION) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot open ${path}: because its format is version ${String(version)} and this build knows ${SCHEMA_VERSION}.`,
      { hint: "Run the Tidemark version that wrote it, or a newer one." },
    );
  }
  const verdict = database.pragma("quick_check(1)", { simple: true });
  if (verdict !== "ok") {
    throw new TidemarkError(
      "CORRUPT",
      `Cannot open ${path}: because it is damaged: ${String(verdict)}.`,
      { hint: "Restore it from a backup, or move it away and enable the VMs again." },
    );
  }
}

function readRow(database: Database.Database, key: string): Row | undefined {
  return database
    .prepare<[string], Row>("SELECT key, value, version FROM document WHERE key = ?")
    .get(key);
}

function expectRow(
  database: Database.Database,
  key: string,
  expectedVersion: number | undefined,
): Row | undefined {
  const row = readRow(database, key);
  const version = row?.version ?? 0;
  if (expectedVersion !== undefined && expectedVersion !== version) {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot change ${JSON.stringify(key)}: because it is at version ${version}, not ${expectedVersion}.`,
      { hint: "Read it again and repeat the change." },
    );
  }
  return row;
}

function toDocument(row: Row, path: string): StateDocument {
  try {
    return { key: row.key, value: JSON.parse(row.value) as unknown, version: row.version };
  } catch (cause) {
    throw new TidemarkError(
      "CORRUPT",
      `Cannot read ${JSON.stringify(row.key)} in ${path}: because its value is not JSON.`,
      { cause },
    );
  }
}
