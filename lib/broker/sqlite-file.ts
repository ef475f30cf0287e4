import Database from "better-sqlite3";
import { TidemarkError } from "../model/errors.js";
import { storeError } from "./sqlite-errors.js";

export interface SqliteLayout {
  /** As in "no Tidemark state store". */
  readonly name: string;
  /** Tells it from any other SQLite file. */
  readonly applicationId: number;
  readonly version: number;
  /** The statements that make its tables. */
  readonly schema: string;
  /** FULL: what was committed survives power loss. */
  readonly synchronous: "FULL" | "NORMAL";
}

/**
 * An SQLite file of ours, in WAL. It is locked for as long as it is open (SQLite's
 * exclusive locking mode), so two services cannot share it; the kernel frees the lock
 * with the process.
 */
export class SqliteFile {
  readonly path: string;
  readonly #name: string;
  readonly #database: Database.Database;

  private constructor(path: string, name: string, database: Database.Database) {
    this.path = path;
    this.#name = name;
    this.#database = database;
  }

  /** Creates it when it is missing. IN_USE, CORRUPT, FOREIGN, VERSION_UNKNOWN. */
  static open(path: string, layout: SqliteLayout): SqliteFile {
    let database: Database.Database | undefined;
    try {
      database = new Database(path, { timeout: 0 });
      prepare(database, path, layout);
      return new SqliteFile(path, layout.name, database);
    } catch (thrown) {
      database?.close();
      throw storeError("open", path, thrown);
    }
  }

  read<T>(work: (database: Database.Database) => T): T {
    return this.#run("read", work);
  }

  /** In one transaction: all of it or nothing. */
  write<T>(work: (database: Database.Database) => T): T {
    return this.#run("write", (database) => database.transaction(() => work(database)).immediate());
  }

  close(): void {
    this.#database.close();
  }

  #run<T>(verb: string, work: (database: Database.Database) => T): T {
    if (!this.#database.open) {
      throw new TidemarkError("CLOSED", `Cannot ${verb} the ${this.#name}: because it was closed.`);
    }
    try {
      return work(this.#database);
    } catch (thrown) {
      throw storeError(verb, this.path, thrown);
    }
  }
}

/** Takes the lock, then checks or makes the schema. */
function prepare(database: Database.Database, path: string, layout: SqliteLayout): void {
  database.pragma("locking_mode = EXCLUSIVE");
  database.exec("BEGIN EXCLUSIVE; COMMIT;");
  // Counts schema changes: 0 only before the transaction below has committed.
  const isNew = database.pragma("schema_version", { simple: true }) === 0;
  if (!isNew) refuseForeign(database, path, layout);
  database.pragma("journal_mode = WAL");
  database.pragma(`synchronous = ${layout.synchronous}`);
  if (!isNew) return;
  database.exec(
    `BEGIN;
     ${layout.schema}
     PRAGMA application_id = ${layout.applicationId};
     PRAGMA user_version = ${layout.version};
     COMMIT;`,
  );
}

function refuseForeign(
  database: Database.Database,
  path: string,
  { name, applicationId, version }: SqliteLayout,
): void {
  if (database.pragma("application_id", { simple: true }) !== applicationId) {
    throw new TidemarkError(
      "FOREIGN",
      `Cannot open ${path}: because it is a SQLite file but no Tidemark ${name}.`,
      { hint: "Name another file, or move this one away: a new one is made." },
    );
  }
  const found = database.pragma("user_version", { simple: true });
  if (found !== version) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot open ${path}: because its format is version ${String(found)} and this build knows ${version}.`,
      { hint: "Run the Tidemark version that wrote it, or a newer one." },
    );
  }
  const verdict = database.pragma("quick_check(1)", { simple: true });
  if (verdict === "ok") return;
  throw new TidemarkError(
    "CORRUPT",
    `Cannot open ${path}: because it is damaged: ${String(verdict)}.`,
    { hint: "Restore it from a backup, or move it away: a new one is made." },
  );
}
