import { parseDurationMs } from "./context.js";

const DAY_MS = 86_400_000;

/** As a duration, and days: "7d". */
export function parseSpanMs(text: string): number {
  const days = /^(\d{1,4})d$/.exec(text);
  return days === null ? parseDurationMs(text) : Number(days[1]) * DAY_MS;
}
