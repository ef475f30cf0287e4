import Database from "better-sqlite3";
import { type ErrorCode, TidemarkError } from "../model/errors.js";

const MEANINGS: readonly [prefix: string, code: ErrorCode, reason: string, hint: string][] = [
  [
    "SQLITE_BUSY",
    "IN_USE",
    "another process has it open",
    "End that process, or use another directory.",
  ],
  ["SQLITE_LOCKED", "IN_USE", "it is locked", "End the process that holds it."],
  ["SQLITE_NOTADB", "CORRUPT", "it is no SQLite file", "Restore it from a backup."],
  ["SQLITE_CORRUPT", "CORRUPT", "it is damaged", "Restore it from a backup."],
  ["SQLITE_FULL", "NO_SPACE", "the file system is full", "Free some space there."],
  ["SQLITE_READONLY", "READ_ONLY", "it may not be written", "Check its permissions."],
  ["SQLITE_CANTOPEN", "NOT_FOUND", "it cannot be opened", "Check the directory and permissions."],
  ["SQLITE_IOERR", "IO_ERROR", "the system refused an I/O operation", "Check the storage."],
];

/** What SQLite (or the code around it) threw, with a code and a sentence. */
export function storeError(verb: string, path: string, thrown: unknown): TidemarkError {
  if (thrown instanceof TidemarkError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const sqliteCode = thrown instanceof Database.SqliteError ? thrown.code : "";
  const found = MEANINGS.find(([prefix]) => sqliteCode.startsWith(prefix));
  if (found === undefined) {
    // better-sqlite3 reports a missing directory as a TypeError without a code.
    const code = message.includes("directory does not exist") ? "NOT_FOUND" : "INTERNAL";
    return new TidemarkError(code, `Cannot ${verb} ${path}: because ${message}.`, {
      cause: thrown,
    });
  }
  const [, code, reason, hint] = found;
  return new TidemarkError(code, `Cannot ${verb} ${path}: because ${reason} (${message}).`, {
    hint,
    cause: thrown,
  });
}
