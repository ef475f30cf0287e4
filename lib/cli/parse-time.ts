import { TidemarkError } from "../model/errors.js";
import { parseDurationMs } from "./context.js";

/** "now", "+8h", or a time like 2026-11-23T22:00 (in this machine's zone unless it says so): epoch milliseconds. */
export function parseTimeMs(text: string, nowMs = Date.now()): number {
  if (text === "now") return nowMs;
  if (text.startsWith("+")) return nowMs + parseDurationMs(text.slice(1));
  const timeMs = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isFinite(timeMs)) return timeMs;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as a time: because it is not like now, +8h or 2026-11-23T22:00.`,
  );
}
