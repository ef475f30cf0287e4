import { TidemarkError } from "../model/errors.js";

const SPAN = /^(\d{1,6})(s|m|h|d|w)$/;
const MS_PER_UNIT = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

export interface Tier {
  readonly withinMs: number;
  /** 0: all points. */
  readonly everyMs: number;
}

/** "1h:all", "1d:5m", "1w:1h": how far back, and one point for how long a time. */
export function parseTier(text: string): Tier {
  const [within = "", every = "", ...rest] = text.split(":");
  const withinMs = spanMs(within);
  const everyMs = every === "all" ? 0 : spanMs(every);
  if (rest.length === 0 && withinMs !== null && everyMs !== null) return { withinMs, everyMs };
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as a tier: it is not like 1h:all, 1d:5m or 1w:1h.`,
  );
}

export function formatTier({ withinMs, everyMs }: Tier): string {
  return `${formatSpan(withinMs)}:${everyMs === 0 ? "all" : formatSpan(everyMs)}`;
}

function spanMs(text: string): number | null {
  const match = SPAN.exec(text);
  if (match === null) return null;
  return Number(match[1]) * MS_PER_UNIT[match[2] as keyof typeof MS_PER_UNIT];
}

function formatSpan(spanOfMs: number): string {
  const units = Object.entries(MS_PER_UNIT).reverse();
  const [unit, ms] = units.find(([, unitMs]) => spanOfMs % unitMs === 0) ?? ["ms", 1];
  return `${spanOfMs / ms}${unit}`;
}
