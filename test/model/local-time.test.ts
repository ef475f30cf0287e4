import t from "tap";
import {
  isWithinDaily,
  isWithinWeekly,
  nextOpeningMs,
  systemLocalTime,
  type ToLocalTime,
  WEEKDAYS,
  type Weekday,
} from "#lib/model/local-time.js";
import { rateAt, type Throttle } from "#lib/model/throttle.js";

/** A clock on a wall in Berlin, by the runtime's own calendar. */
const inBerlin: ToLocalTime = (nowMs) => {
  const parts = new Intl.DateTimeFormat("en-GB", {
    timeZone: "Europe/Berlin",
    weekday: "short",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  }).formatToParts(nowMs);
  const of = (type: string) => parts.find((part) => part.type === type)?.value ?? "";
  return {
    weekday: of("weekday").toLowerCase() as Weekday,
    minuteOfDay: Number(of("hour")) * 60 + Number(of("minute")),
  };
};

const MINUTE_MS = 60_000;

/** From when to when, by the minute, within a span of real time. */
function openMinutes(isOpen: (atMs: number) => boolean, fromMs: number, hours: number): number {
  let count = 0;
  for (let minute = 0; minute < hours * 60; minute += 1) {
    if (isOpen(fromMs + minute * MINUTE_MS)) count += 1;
  }
  return count;
}

void t.test("the machine's clock knows day and minute", async (t) => {
  const nowMs = Date.UTC(2026, 10, 23, 12, 34);
  const date = new Date(nowMs);
  t.same(systemLocalTime(nowMs), {
    weekday: WEEKDAYS[date.getDay()],
    minuteOfDay: date.getHours() * 60 + date.getMinutes(),
  });
});

void t.test("a window past midnight belongs to the day on which it begins", async (t) => {
  const window = { days: ["fri"] as const, from: "22:00", to: "06:00" };
  const at = (weekday: Weekday, hours: number, minutes = 0) =>
    isWithinWeekly(window, { weekday, minuteOfDay: hours * 60 + minutes });
  t.same([at("fri", 21, 59), at("fri", 22), at("fri", 23, 59)], [false, true, true]);
  t.same([at("sat", 0), at("sat", 5, 59), at("sat", 6)], [true, true, false]);
  t.same([at("fri", 0), at("fri", 5, 59), at("sat", 22)], [false, false, false]);
  const allDay = { days: ["sun"] as const, from: "00:00", to: "00:00" };
  const sunday = (hours: number) =>
    isWithinWeekly(allDay, { weekday: "sun", minuteOfDay: hours * 60 });
  t.ok(sunday(0) && sunday(12) && sunday(23));
  t.notOk(isWithinWeekly(allDay, { weekday: "mon", minuteOfDay: 0 }));
});

void t.test("daylight saving: wall clock times hold, hours come and go", async (t) => {
  const isOpen = (from: string, to: string) => (atMs: number) =>
    isWithinDaily({ from, to }, inBerlin(atMs));
  // 2026-03-29: 02:00 is 03:00. 2026-10-25: 03:00 is 02:00.
  const spring = Date.UTC(2026, 2, 28, 12);
  const autumn = Date.UTC(2026, 9, 24, 12);
  t.equal(openMinutes(isOpen("01:00", "04:00"), spring, 24), 120);
  t.equal(openMinutes(isOpen("01:00", "04:00"), autumn, 24), 240);
  t.equal(openMinutes(isOpen("02:10", "02:50"), spring, 24), 0);
  t.equal(openMinutes(isOpen("02:10", "02:50"), autumn, 24), 80);
  t.equal(openMinutes(isOpen("22:00", "06:00"), spring, 24), 7 * 60);
  t.equal(openMinutes(isOpen("22:00", "06:00"), autumn, 24), 9 * 60);
});

void t.test("the next opening is the first open minute", async (t) => {
  const window = { from: "22:00", to: "06:00" };
  const noon = Date.UTC(2026, 10, 23, 12, 0, 30);
  t.equal(nextOpeningMs(window, noon, inBerlin), Date.UTC(2026, 10, 23, 21));
  const night = Date.UTC(2026, 10, 23, 23);
  t.equal(nextOpeningMs(window, night, inBerlin), night, "it is open");
  const afterClose = Date.UTC(2026, 10, 23, 5);
  t.equal(nextOpeningMs(window, afterClose, inBerlin), Date.UTC(2026, 10, 23, 21));
  // In the night when 02:30 does not exist, the window is looked for the next day.
  const skipped = nextOpeningMs({ from: "02:10", to: "02:50" }, Date.UTC(2026, 2, 29, 0), inBerlin);
  t.ok(skipped > Date.UTC(2026, 2, 29, 2));
});

void t.test("a throttle's first open window decides", async (t) => {
  const throttle: Throttle = {
    bytesPerSecond: 50,
    windows: [
      { days: ["mon", "tue"], from: "08:00", to: "18:00", bytesPerSecond: 10 },
      { days: ["mon"], from: "00:00", to: "00:00", bytesPerSecond: null },
    ],
  };
  const rate = (weekday: Weekday, hours: number) =>
    rateAt(throttle, { weekday, minuteOfDay: hours * 60 });
  t.same([rate("mon", 9), rate("mon", 18), rate("tue", 9), rate("tue", 18)], [10, null, 10, 50]);
  t.equal(rateAt(null, { weekday: "mon", minuteOfDay: 0 }), null);
});
