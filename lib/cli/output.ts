import { type TidemarkError, toTidemarkError } from "../model/errors.js";

const MIB = 1 << 20;

export function formatMib(bytes: number): string {
  return (bytes / MIB).toFixed(1);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unitIndex = 0;
  while (value >= 1024 && unitIndex < UNITS.length - 1) {
    value /= 1024;
    unitIndex += 1;
  }
  return `${unitIndex === 0 ? value : value.toFixed(1)} ${UNITS[unitIndex]}`;
}

export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(1)} s`;
  if (durationMs >= 3_600_000) {
    const minutes = Math.round(durationMs / 60_000);
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  return `${Math.floor(durationMs / 60_000)} min ${Math.round((durationMs % 60_000) / 1000)} s`;
}

export function formatTime(timeMs: number): string {
  return new Date(timeMs)
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, "Z");
}

/** "1 cycle", "2 cycles". */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** As one word of a shell's command. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

const COLUMN_GAP = "  ";

/** Plain columns; numbers are right-aligned. */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): void {
  for (const line of tableLines(head, rows)) process.stdout.write(`${line}\n`);
}

export function tableLines(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string[] {
  const lines = [head, ...rows.map((row) => row.map(String))];
  const widths = head.map((_name, column) =>
    Math.max(...lines.map((line) => (line[column] ?? "").length)),
  );
  const isNumeric = head.map((_name, column) => {
    const cells = rows.map((row) => String(row[column])).filter((cell) => cell !== "-");
    return cells.length > 0 && cells.every((cell) => /^[\d.,-]+( \w+)?$/.test(cell));
  });
  return lines.map((line) => {
    const cells = line.map((cell, column) =>
      isNumeric[column] === true
        ? cell.padStart(widths[column] ?? 0)
        : cell.padEnd(widths[column] ?? 0),
    );
    return cells.join(COLUMN_GAP).trimEnd();
  });
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function describeError(error: Pick<TidemarkError, "message" | "hint">): string {
  const hint = error.hint === undefined ? "" : ` ${error.hint}`;
  return `${error.message}${hint}`;
}

/** One sentence on standard error; with --json one object. Exit status 1. */
export function reportFailure(thrown: unknown, json: boolean): void {
  const error = toTidemarkError(thrown);
  const { code, message, retryable } = error;
  process.stderr.write(
    json
      ? `${JSON.stringify({ error: { code, message, hint: error.hint ?? null, retryable } })}\n`
      : `tidemark: ${describeError(error)} [${code}]\n`,
  );
  process.exitCode = 1;
}
