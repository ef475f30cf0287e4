import Database from "better-sqlite3";
import { TidemarkError } from "../model/errors.js";

/**
 * Keeps a second process out of a store's root: an exclusive transaction on a
 * database that holds nothing. The kernel frees its lock with the process,
 * however that ends, which a file with a process id in it cannot promise.
 */
export class StoreLock {
  readonly #database: Database.Database;

  private constructor(database: Database.Database) {
    this.#database = database;
  }

  static acquire(path: string): StoreLock {
    const database = new Database(path, { timeout: 0 });
    try {
      database.exec("BEGIN EXCLUSIVE");
      return new StoreLock(database);
    } catch (cause) {
      database.close();
      const code = cause instanceof Database.SqliteError ? cause.code : "";
      if (code.startsWith("SQLITE_BUSY")) throw inUse(path, cause);
      throw new TidemarkError("IO_ERROR", `Cannot lock ${path}: because ${String(cause)}.`, {
        cause,
      });
    }
  }

  release(): void {
    this.#database.close();
  }
}

function inUse(path: string, cause: unknown): TidemarkError {
  return new TidemarkError(
    "IN_USE",
    `Cannot open the replica store of ${path}: because another process has it open.`,
    { hint: "End that process, or use another directory.", cause },
  );
}
