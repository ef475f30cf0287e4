/** Statistics against a list of everything that happened. */
import t, { type Test } from "tap";
import type { Clock } from "#lib/model/clock.js";
import type { CycleReport, ReplicationEvent } from "#lib/model/relationship.js";
import { MemoryStatisticsStore } from "#lib/model/statistics-store.js";
import type { IntervalSummary, Spread } from "#lib/replication/interval-statistics.js";
import { DEFAULT_MONITORING, windowBeginMs } from "#lib/replication/monitoring-window.js";
import { StatisticsRecorder } from "#lib/replication/statistics-recorder.js";
import { SeededRandom } from "../support/seeded-random.js";

const VM = "00000000-0000-4000-8000-000000000001";
const HOUR_MS = 3_600_000;

/** Stands still until it is set; nothing that sleeps wakes up. */
class StandingClock implements Clock {
  constructor(public timeMs: number) {}
  nowMs = () => this.timeMs;
  monotonicMs = () => this.timeMs;
  sleep(_delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((_resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason as Error));
    });
  }
}

function report(random: SeededRandom, parts: Partial<CycleReport> = {}): CycleReport {
  const changedBytes = random.below(1 << 24);
  return {
    kind: "cycle",
    cutSequence: 1,
    consistency: "crash",
    pointId: null,
    startedAtMs: 0,
    durationMs: random.below(100_000) / 7,
    changedBytes,
    diskChangedBytes: { vda: changedBytes >> 1, [`vd${"bc"[random.below(2)]}`]: changedBytes >> 2 },
    sentBytes: random.below(1 << 20),
    unchangedBytes: changedBytes >> (1 + random.below(8)),
    pauseNs: random.below(50_000_000),
    requestsInFlight: 0,
    lagMs: random.below(8_000_000),
    healing:
      random.below(5) > 0
        ? null
        : { causes: [], comparedBytes: 9, differingBytes: random.below(1 << 20), durationMs: 1 },
    ...parts,
  };
}

function event(random: SeededRandom): ReplicationEvent {
  const code = ["UNREACHABLE", "TIMED_OUT", "CORRUPT", "NO_SPACE"][random.below(4)] ?? "";
  const error = { code, message: "", hint: null, retryable: true, retryAtMs: null };
  switch (random.below(6)) {
    case 0:
      return { type: "missed", vmId: VM, count: 1 + random.below(4), reason: "late" };
    case 1:
      return { type: "error", vmId: VM, error };
    case 2:
      return { type: "state", vmId: VM, state: "replicating" };
    default:
      return { type: "cycle", vmId: VM, report: report(random) };
  }
}

interface Happened {
  readonly atMs: number;
  readonly event: ReplicationEvent;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** By the definitions, from scratch. */
function expectSummary(t: Test, found: IntervalSummary, all: readonly Happened[], name: string) {
  const cycles = all.flatMap(({ event: one }) => (one.type === "cycle" ? [one.report] : []));
  const of = (pick: (one: CycleReport) => number) => cycles.map(pick);
  const disks = disksOf(cycles);
  t.match(found, { ...countsOf(all, cycles), ...sizesOf(cycles), diskChangedBytes: disks }, name);
  t.same(Object.keys(found.diskChangedBytes).sort(), Object.keys(disks).sort(), name);
  const spreads = [
    ["duration", found.durationMs, of((one) => one.durationMs)],
    ["lag", found.lagMs, of((one) => one.lagMs)],
    ["pause", found.pauseMs, of((one) => one.pauseNs / 1e6)],
  ] as const;
  for (const [what, spread, values] of spreads) expectSpread(t, spread, values, `${name}: ${what}`);
}

function countsOf(all: readonly Happened[], cycles: readonly CycleReport[]): object {
  const missed = sum(all.map(({ event: one }) => (one.type === "missed" ? one.count : 0)));
  const errors = all.flatMap(({ event: one }) => (one.type === "error" ? [one.error.code] : []));
  const dueCount = cycles.length + missed;
  return {
    cycleCount: cycles.length,
    missedCount: missed,
    missedShare: dueCount === 0 ? 0 : missed / dueCount,
    errorCount: errors.length,
    networkErrorCount: errors.filter((code) => /UNREACHABLE|TIMED_OUT/.test(code)).length,
  };
}

function sizesOf(cycles: readonly CycleReport[]): object {
  const [changed, sent] = [
    cycles.map((one) => one.changedBytes),
    cycles.map((one) => one.sentBytes),
  ];
  const unchanged = cycles.map((one) => one.unchangedBytes);
  const average = (values: readonly number[]) =>
    values.length === 0 ? 0 : sum(values) / values.length;
  return {
    changedBytes: sum(changed),
    changedBytesAverage: average(changed),
    changedBytesMax: Math.max(0, ...changed),
    sentBytes: sum(sent),
    sentBytesAverage: average(sent),
    sentBytesMax: Math.max(0, ...sent),
    unchangedBytes: sum(unchanged),
    compressionRatio: sum(sent) === 0 ? null : (sum(changed) - sum(unchanged)) / sum(sent),
    resynchronizedBytes: sum(cycles.map((one) => one.healing?.differingBytes ?? 0)),
  };
}

function disksOf(cycles: readonly CycleReport[]): Record<string, number> {
  const disks: Record<string, number> = {};
  for (const [disk, bytes] of cycles.flatMap((one) => Object.entries(one.diskChangedBytes ?? {}))) {
    disks[disk] = (disks[disk] ?? 0) + bytes;
  }
  return disks;
}

/** At most an eighth (or a millisecond) too high, never too low. */
function expectSpread(t: Test, found: Spread, values: readonly number[], name: string): void {
  const sorted = [...values].sort((left, right) => left - right);
  const close = (one: number, other: number) => Math.abs(one - other) <= 1e-6 * Math.max(1, other);
  const average = sorted.length === 0 ? 0 : sorted.reduce((a, b) => a + b, 0) / sorted.length;
  if (!close(found.average, average)) t.equal(found.average, average, `${name} average`);
  if (!close(found.max, sorted.at(-1) ?? 0)) t.equal(found.max, sorted.at(-1) ?? 0, `${name} max`);
  for (const [share, quantile] of [
    [0.5, found.p50],
    [0.99, found.p99],
  ] as const) {
    const exact = sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1] ?? 0;
    const isRight = quantile >= exact - 1e-6 && quantile <= exact * 1.125 + 1.1;
    if (!isRight) t.fail(`${name} p${share * 100}: ${quantile} for ${exact}`);
  }
}

for (const seed of [1, 2, 3, 4, 5, 6]) {
  void t.test(`counted over restarts, resets and intervals, seed ${seed}`, async (t) => {
    const random = new SeededRandom(seed);
    const store = new MemoryStatisticsStore();
    const clock = new StandingClock(1_700_000_000_000);
    const monitoring = () => DEFAULT_MONITORING;
    const open = () => StatisticsRecorder.open({ store, clock, monitoring }, [VM]);
    let recorder = await open();
    let happened: Happened[] = [];
    let previous: Happened[] | null = null;
    let beginMs = clock.timeMs;
    for (let step = 0; step < 600; step += 1) {
      clock.timeMs += random.below(step % 100 === 99 ? 20 * HOUR_MS : 60_000);
      const windowMs = windowBeginMs(clock.timeMs, DEFAULT_MONITORING);
      const rolls = windowMs > beginMs;
      const what = random.below(40);
      if (what === 0) {
        await recorder.close();
        recorder = await open();
      } else if (what === 1) {
        await recorder.reset(VM);
        [happened, previous, beginMs] = [[], null, clock.timeMs];
      } else {
        const one = event(random);
        recorder.listen(one);
        if (rolls && one.type !== "state") {
          [previous, happened, beginMs] = [happened, [], windowMs];
        }
        happened.push({ atMs: clock.timeMs, event: one });
      }
      if (step % 20 !== 0) continue;
      if (windowMs > beginMs) [previous, happened, beginMs] = [happened, [], windowMs];
      const found = await recorder.statistics(VM);
      expectSummary(t, found.current, happened, `step ${step}`);
      t.equal(found.previous === null, previous === null, `step ${step}: the interval before`);
      if (found.previous !== null)
        expectSummary(t, found.previous, previous ?? [], `before ${step}`);
    }
    await recorder.close();
  });
}

void t.test("the first copy, the last cycle and test failovers are remembered", async (t) => {
  const store = new MemoryStatisticsStore();
  const clock = new StandingClock(1_700_000_000_000);
  const options = { store, clock, monitoring: () => DEFAULT_MONITORING };
  const random = new SeededRandom(3);
  const first = await StatisticsRecorder.open(options, []);
  const initial = report(random, { kind: "initial", changedBytes: 12_345 });
  first.listen({ type: "cycle", vmId: VM, report: initial });
  clock.timeMs += 1000;
  first.listen({ type: "cycle", vmId: VM, report: report(random) });
  clock.timeMs += 1000;
  await first.noteTestFailover(VM);
  await first.close();
  const second = await StatisticsRecorder.open(options, [VM]);
  t.match(await second.statistics(VM), {
    initialReplicationBytes: 12_345,
    lastCycleAtMs: 1_700_000_001_000,
    lastTestFailoverAtMs: 1_700_000_002_000,
    current: { cycleCount: 2 },
  });
  const { spanMs } = second.limits;
  const spans = await second.history(VM, { fromMs: 0, untilMs: 1e15, spanMs });
  t.match(spans, [{ cycleCount: 2, spanMs }]);
  await second.forget(VM);
  t.match(await second.statistics(VM), { initialReplicationBytes: null });
  t.same(await second.history(VM, { fromMs: 0, untilMs: 1e15, spanMs: 0 }), []);
  await second.close();
});

void t.test("what could not be saved is saved later, and counts once", async (t) => {
  const store = new MemoryStatisticsStore();
  const save = store.save.bind(store);
  let isFull = true;
  store.save = (updates, nowMs) =>
    isFull ? Promise.reject(new Error("no space")) : save(updates, nowMs);
  const warnings: string[] = [];
  const clock = new StandingClock(1_700_000_000_000);
  const recorder = await StatisticsRecorder.open(
    {
      store,
      clock,
      monitoring: () => DEFAULT_MONITORING,
      onWarning: (message) => warnings.push(message),
    },
    [VM],
  );
  const random = new SeededRandom(9);
  for (let index = 0; index < 3; index += 1) {
    clock.timeMs += 1000;
    recorder.listen({ type: "cycle", vmId: VM, report: report(random) });
    await t.rejects(recorder.save(), /no space/);
  }
  isFull = false;
  const cycles = await recorder.history(VM, { fromMs: 0, untilMs: 1e15, spanMs: 0 });
  t.same(
    cycles.map(({ atMs }) => atMs - 1_700_000_000_000),
    [1000, 2000, 3000],
  );
  t.equal((await recorder.statistics(VM)).current.cycleCount, 3);
  isFull = true;
  recorder.listen({ type: "missed", vmId: VM, count: 1, reason: "" });
  await recorder.close();
  t.match(warnings, [/Cannot save statistics: because no space/]);
});

void t.test("monitoring intervals: 12 h from 9:00, days, and daylight saving time", async (t) => {
  const at = (text: string) => Date.parse(text);
  const utc = () => 0;
  const half = { intervalMs: 12 * HOUR_MS, startMinutes: 540 };
  const begin = (text: string, settings = half, offset: (timeMs: number) => number = utc) =>
    new Date(windowBeginMs(at(text), settings, offset)).toISOString();
  t.equal(begin("2026-03-10T09:00:00Z"), "2026-03-10T09:00:00.000Z");
  t.equal(begin("2026-03-10T08:59:59Z"), "2026-03-09T21:00:00.000Z");
  t.equal(begin("2026-03-10T23:00:00Z"), "2026-03-10T21:00:00.000Z");
  const hourly = { intervalMs: HOUR_MS, startMinutes: 30 };
  t.equal(begin("2026-03-10T23:29:00Z", hourly), "2026-03-10T22:30:00.000Z");
  const berlin = (timeMs: number) => (timeMs >= at("2026-03-29T01:00:00Z") ? 120 : 60);
  t.equal(begin("2026-03-28T12:00:00Z", half, berlin), "2026-03-28T08:00:00.000Z", "9:00 at +1");
  t.equal(begin("2026-03-29T06:00:00Z", half, berlin), "2026-03-28T20:00:00.000Z", "21:00 at +1");
  t.equal(begin("2026-03-29T08:00:00Z", half, berlin), "2026-03-29T07:00:00.000Z", "9:00 at +2");
  const week = { intervalMs: 7 * 24 * HOUR_MS, startMinutes: 0 };
  for (let day = 1; day < 29; day += 1) {
    const nowMs = at(`2026-02-${String(day).padStart(2, "0")}T13:00:00Z`);
    const beganMs = windowBeginMs(nowMs, week, utc);
    t.ok(beganMs <= nowMs && nowMs < beganMs + week.intervalMs);
    t.equal(windowBeginMs(beganMs, week, utc), beganMs, "a window's begin is in it");
    t.equal(windowBeginMs(beganMs - 1, week, utc), beganMs - week.intervalMs);
  }
});
