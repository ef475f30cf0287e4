/** Times of the week as a wall clock shows them, and the windows that people set by it. */
export const WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] as const;
export type Weekday = (typeof WEEKDAYS)[number];

export interface LocalTime {
  readonly weekday: Weekday;
  readonly minuteOfDay: number;
}

/** What a wall clock shows at that instant; follows daylight saving. */
export type ToLocalTime = (nowMs: number) => LocalTime;

/** "22:00" to "06:00"; past midnight when it ends before it begins, all day when both are the same. */
export interface DailyWindow {
  readonly from: string;
  readonly to: string;
}

/** A window past midnight belongs to the days on which it begins. */
export interface WeeklyWindow extends DailyWindow {
  readonly days: readonly Weekday[];
}

const MINUTE_MS = 60_000;
const SEARCH_MINUTES = 26 * 60;

/** In this machine's time zone. */
export const systemLocalTime: ToLocalTime = (nowMs) => {
  const date = new Date(nowMs);
  return {
    weekday: WEEKDAYS[date.getDay()] ?? "sun",
    minuteOfDay: date.getHours() * 60 + date.getMinutes(),
  };
};

export function isWithinWeekly({ days, ...window }: WeeklyWindow, local: LocalTime): boolean {
  const { isToday, isSinceYesterday } = partsWithin(window, local.minuteOfDay);
  const yesterday = WEEKDAYS[(WEEKDAYS.indexOf(local.weekday) + 6) % 7] ?? "sun";
  return (
    (isToday && days.includes(local.weekday)) || (isSinceYesterday && days.includes(yesterday))
  );
}

export function isWithinDaily(window: DailyWindow, local: LocalTime): boolean {
  const { isToday, isSinceYesterday } = partsWithin(window, local.minuteOfDay);
  return isToday || isSinceYesterday;
}

/** The next instant, to the minute, at which the window is open; now when it is. */
export function nextOpeningMs(window: DailyWindow, nowMs: number, toLocal: ToLocalTime): number {
  if (isWithinDaily(window, toLocal(nowMs))) return nowMs;
  const minuteMs = Math.floor(nowMs / MINUTE_MS) * MINUTE_MS;
  for (let minutes = 1; minutes <= SEARCH_MINUTES; minutes += 1) {
    const atMs = minuteMs + minutes * MINUTE_MS;
    if (isWithinDaily(window, toLocal(atMs))) return atMs;
  }
  // A window within the hour that daylight saving skips.
  return minuteMs + SEARCH_MINUTES * MINUTE_MS;
}

function partsWithin({ from, to }: DailyWindow, minuteOfDay: number) {
  const [begin, end] = [minutesOf(from), minutesOf(to)];
  if (begin < end) {
    return { isToday: minuteOfDay >= begin && minuteOfDay < end, isSinceYesterday: false };
  }
  return { isToday: minuteOfDay >= begin, isSinceYesterday: minuteOfDay < end };
}

function minutesOf(timeOfDay: string): number {
  const [hours = 0, minutes = 0] = timeOfDay.split(":").map(Number);
  return hours * 60 + minutes;
}
