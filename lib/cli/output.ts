import Table from "cli-table3";
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
  return `${Math.floor(durationMs / 60_000)} min ${Math.round((durationMs % 60_000) / 1000)} s`;
}

export function formatTime(timeMs: number): string {
  return new Date(timeMs)
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, "Z");
}

/** As one word of a shell's command. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** Plain columns; numbers are right-aligned. */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): void {
  const isNumeric = (column: number) =>
    rows.length > 0 &&
    rows.every(
      (row) => typeof row[column] === "number" || /^[\d.,-]+( \w+)?$/.test(String(row[column])),
    );
  const table = new Table({
    head: [...head],
    colAligns: head.map((_name, column) => (isNumeric(column) ? "right" : "left")),
    style: { head: [], border: [], compact: true, "padding-left": 0, "padding-right": 2 },
    chars: {
      top: "",
      "top-mid": "",
      "top-left": "",
      "top-right": "",
      bottom: "",
      "bottom-mid": "",
      "bottom-left": "",
      "bottom-right": "",
      left: "",
      "left-mid": "",
      mid: "",
      "mid-mid": "",
      right: "",
      "right-mid": "",
      middle: "",
    },
  });
  table.push(...rows.map((row) => row.map((cell) => ({ content: String(cell) }))));
  process.stdout.write(`${table.toString().replace(/ +$/gm, "")}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function describeError(error: TidemarkError): string {
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
