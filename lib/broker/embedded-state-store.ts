import type Database from "better-sqlite3";
import { TidemarkError } from "../model/errors.js";
import type { StateDocument, StateStore } from "../model/state-store.js";
import { SqliteFile, type SqliteLayout } from "./sqlite-file.js";

const LAYOUT: SqliteLayout = {
  name: "state store",
  /** "TMst". */
  applicationId: 0x544d7374,
  version: 1,
  schema: `CREATE TABLE document (
     key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, version INTEGER NOT NULL
   ) WITHOUT ROWID, STRICT;`,
  synchronous: "FULL",
};

interface Row {
  readonly key: string;
  readonly value: string;
  readonly version: number;
}

/**
 * The state store of a single host: one table in one SQLite file. A put that resolved
 * survives power loss. The calls under the promises are synchronous: documents are a few
 * KiB and are written a few times a cycle.
 */
export class EmbeddedStateStore implements StateStore {
  readonly #file: SqliteFile;

  private constructor(file: SqliteFile) {
    this.#file = file;
  }

  /** Creates the file when it is missing. IN_USE, CORRUPT, FOREIGN, VERSION_UNKNOWN. */
  static open(path: string): EmbeddedStateStore {
    return new EmbeddedStateStore(SqliteFile.open(path, LAYOUT));
  }

  async get(key: string): Promise<StateDocument | null> {
    return this.#file.read((database) => {
      const row = readRow(database, key);
      return row === undefined ? null : toDocument(row, this.#file.path);
    });
  }

  async list(prefix: string): Promise<readonly StateDocument[]> {
    return this.#file.read((database) =>
      database
        .prepare<[string, string, string], Row>(
          `SELECT key, value, version FROM document
           WHERE key >= ? AND substr(key, 1, length(?)) = ? ORDER BY key`,
        )
        .all(prefix, prefix, prefix)
        .map((row) => toDocument(row, this.#file.path)),
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
    return this.#file.write((database) => {
      const version = (expectRow(database, key, expectedVersion)?.version ?? 0) + 1;
      database
        .prepare("INSERT OR REPLACE INTO document (key, value, version) VALUES (?, ?, ?)")
        .run(key, text, version);
      return version;
    });
  }

  async delete(key: string, expectedVersion?: number): Promise<void> {
    this.#file.write((database) => {
      expectRow(database, key, expectedVersion);
      database.prepare("DELETE FROM document WHERE key = ?").run(key);
    });
  }

  async close(): Promise<void> {
    this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
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
