import { TidemarkError } from "../model/errors.js";
import { WEEKDAYS, type Weekday } from "../model/local-time.js";
import type { Throttle, ThrottleWindow } from "../model/throttle.js";
import { formatBytes } from "./output.js";
import { parseSize } from "./parse-size.js";

const TIMES = /^(\d\d:\d\d)-(\d\d:\d\d)$/;

/**
 * "20MiB", "unlimited", and windows like "mon-fri 08:00-18:00 2MiB" or "sat,sun 00:00-00:00
 * unlimited"; null when nothing is limited. The first window that is open decides.
 */
export function parseThrottle(rules: readonly string[]): Throttle | null {
  const windows: ThrottleWindow[] = [];
  let bytesPerSecond: number | null = null;
  for (const rule of rules) {
    const words = rule.trim().split(/\s+/);
    const [first = "", times = "", rate = ""] = words;
    if (words.length === 1) bytesPerSecond = parseRate(first, rule);
    else if (words.length === 3) windows.push(parseWindow(first, times, rate, rule));
    else throw unusable(rule);
  }
  return bytesPerSecond === null && windows.length === 0 ? null : { bytesPerSecond, windows };
}

/** As parseThrottle() reads it. */
export function formatThrottle({ bytesPerSecond, windows }: Throttle): string {
  const rate = (value: number | null) => (value === null ? "unlimited" : `${formatBytes(value)}/s`);
  const parts = windows.map(
    (window) =>
      `${window.days.join(",")} ${window.from}-${window.to} ${rate(window.bytesPerSecond)}`,
  );
  return [...parts, `${parts.length === 0 ? "" : "else "}${rate(bytesPerSecond)}`].join("; ");
}

function parseWindow(days: string, times: string, rate: string, rule: string): ThrottleWindow {
  const [, from, to] = TIMES.exec(times) ?? [];
  if (from === undefined || to === undefined) throw unusable(rule);
  return { days: parseDays(days, rule), from, to, bytesPerSecond: parseRate(rate, rule) };
}

/** "mon-fri", "sat,sun", "daily". */
function parseDays(text: string, rule: string): Weekday[] {
  if (text === "daily") return [...WEEKDAYS];
  return text.split(",").flatMap((part) => {
    const [first, last = first] = part.split("-").map((name) => WEEKDAYS.indexOf(name as Weekday));
    if (first === undefined || last === undefined || first < 0 || last < 0) throw unusable(rule);
    const count = ((last - first + 7) % 7) + 1;
    return Array.from({ length: count }, (_, index) => WEEKDAYS[(first + index) % 7] ?? "sun");
  });
}

function parseRate(text: string, rule: string): number | null {
  if (text === "unlimited") return null;
  try {
    return parseSize(text.replace(/\/s$/, "")).bytes;
  } catch {
    throw unusable(rule);
  }
}

function unusable(rule: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(rule)} as a throttle: because it is neither a rate like 20MiB nor a window like "mon-fri 08:00-18:00 2MiB".`,
    { hint: "Rates are bytes a second, or unlimited." },
  );
}
