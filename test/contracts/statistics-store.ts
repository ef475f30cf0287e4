import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import { emptyBucket, type HistoryBucket } from "#lib/model/replication-history.js";
import type { HistoryLimits, StatisticsStore } from "#lib/model/statistics-store.js";
import { SeededRandom } from "../support/seeded-random.js";

export const TEST_LIMITS: HistoryLimits = {
  cyclesKeptMs: 1000,
  cyclesKeptCount: 50,
  spanMs: 100,
  spansKeptMs: 3000,
};

type Open = (t: Test) => Promise<StatisticsStore>;

const ALL = { fromMs: 0, untilMs: Number.MAX_SAFE_INTEGER };

/** A bucket whose every number can be told from the others'. */
function bucketAt(atMs: number, random: SeededRandom): HistoryBucket {
  const below = (bound: number) => random.below(bound);
  return {
    ...emptyBucket(atMs, 0),
    cycleCount: below(2),
    missedCount: below(5),
    errorCount: below(3),
    networkErrorCount: below(2),
    changedBytes: below(2 ** 40),
    sentBytes: below(2 ** 30),
    unchangedBytes: below(2 ** 30),
    durationTotalMs: below(1000),
    durationMaxMs: below(1000),
    lagTotalMs: below(1000),
    lagMaxMs: below(1000),
    pauseTotalNs: below(1e9),
    pauseMaxNs: below(1e9),
    diskChangedBytes: { [`vd${"abc"[below(3)]}`]: below(2 ** 40) },
  };
}

const SUMS = [
  "cycleCount",
  "missedCount",
  "errorCount",
  "networkErrorCount",
  "changedBytes",
] as const;
const MORE_SUMS = [
  "sentBytes",
  "unchangedBytes",
  "durationTotalMs",
  "lagTotalMs",
  "pauseTotalNs",
] as const;
const MAXIMA = ["durationMaxMs", "lagMaxMs", "pauseMaxNs"] as const;

/** Every bucket that was ever saved, and what that comes to by the rules alone. */
class Naive {
  readonly all: HistoryBucket[] = [];
  nowMs = 0;

  /** A span's sum is of all that fell in it, also of cycles that are gone by now. */
  spans(limits: HistoryLimits): object[] {
    const begins = new Set(this.all.map(({ atMs }) => atMs - (atMs % limits.spanMs)));
    return [...begins]
      .sort((left, right) => left - right)
      .filter((beginMs) => beginMs > this.nowMs - limits.spansKeptMs)
      .map((beginMs) => {
        const within = this.all.filter(
          ({ atMs }) => atMs >= beginMs && atMs < beginMs + limits.spanMs,
        );
        const sum: Record<string, unknown> = { atMs: beginMs, spanMs: limits.spanMs };
        for (const key of [...SUMS, ...MORE_SUMS]) {
          sum[key] = within.reduce((total, one) => total + (one[key] ?? 0), 0);
        }
        for (const key of MAXIMA) sum[key] = Math.max(0, ...within.map((one) => one[key]));
        const disks: Record<string, number> = {};
        for (const { diskChangedBytes } of within) {
          for (const [name, bytes] of Object.entries(diskChangedBytes)) {
            disks[name] = (disks[name] ?? 0) + bytes;
          }
        }
        return { ...sum, diskChangedBytes: disks };
      });
  }

  cycles({ cyclesKeptMs, cyclesKeptCount }: HistoryLimits): HistoryBucket[] {
    return this.all.filter(({ atMs }) => atMs > this.nowMs - cyclesKeptMs).slice(-cyclesKeptCount);
  }
}

export function statisticsStoreContract(t: Test, name: string, open: Open): void {
  void t.test(`${name}: counters as last saved, VM by VM`, async (t) => {
    await keepsCounters(t, await open(t));
  });
  for (const seed of [1, 2, 3, 4, 5]) {
    void t.test(`${name}: history against a list of everything, seed ${seed}`, async (t) => {
      await keepsHistory(t, await open(t), new SeededRandom(seed));
    });
  }
}

async function keepsCounters(t: Test, store: StatisticsStore): Promise<void> {
  const [one, other] = [randomUUID(), randomUUID()];
  t.equal(await store.counters(one), null);
  await store.save([{ vmId: one, counters: { a: 1 }, buckets: [] }], 0);
  await store.save(
    [
      { vmId: one, counters: { a: [2] }, buckets: [] },
      { vmId: other, counters: "x", buckets: [] },
    ],
    0,
  );
  t.same([await store.counters(one), await store.counters(other)], [{ a: [2] }, "x"]);
  await store.forget(one);
  t.same([await store.counters(one), await store.counters(other)], [null, "x"]);
}

async function keepsHistory(t: Test, store: StatisticsStore, random: SeededRandom): Promise<void> {
  const vmIds: string[] = [randomUUID(), randomUUID()];
  const naive = new Map(vmIds.map((vmId) => [vmId, new Naive()]));
  let nowMs = 10_000;
  for (let round = 0; round < 60; round += 1) {
    const updates = vmIds.map((vmId) => {
      const buckets = Array.from({ length: random.below(8) }, () => {
        nowMs += random.below(40);
        return bucketAt(nowMs, random);
      });
      naive.get(vmId)?.all.push(...buckets);
      return { vmId, counters: round, buckets };
    });
    if (random.below(10) === 0) nowMs += 700;
    await store.save(updates, nowMs);
    for (const one of naive.values()) one.nowMs = nowMs;
    await compare(t, store, naive);
  }
  await answersParts(t, store, vmIds[0] ?? "", naive.get(vmIds[0] ?? "")?.cycles(store.limits));
}

async function answersParts(
  t: Test,
  store: StatisticsStore,
  vmId: string,
  cycles: readonly HistoryBucket[] = [],
): Promise<void> {
  const lastMs = cycles.at(-1)?.atMs ?? 0;
  const [fromMs, untilMs] = [lastMs - 300, lastMs];
  const expected = cycles.filter(({ atMs }) => atMs >= fromMs && atMs < untilMs);
  t.same(await store.history(vmId, { fromMs, untilMs, spanMs: 0 }), expected, "a part of it");
  await store.forget(vmId);
  t.same(await store.history(vmId, { ...ALL, spanMs: 0 }), []);
  t.same(await store.history(vmId, { ...ALL, spanMs: store.limits.spanMs }), []);
}

async function compare(
  t: Test,
  store: StatisticsStore,
  naive: ReadonlyMap<string, Naive>,
): Promise<void> {
  for (const [vmId, model] of naive) {
    const cycles = await store.history(vmId, { ...ALL, spanMs: 0 });
    const spans = await store.history(vmId, { ...ALL, spanMs: store.limits.spanMs });
    const isSame =
      JSON.stringify(cycles) === JSON.stringify(model.cycles(store.limits)) &&
      spans.length === model.spans(store.limits).length;
    if (!isSame) t.same(cycles, model.cycles(store.limits));
    const wrong = model
      .spans(store.limits)
      .findIndex((span, index) => !sameValues(span, spans[index]));
    if (wrong >= 0) t.same(spans[wrong], model.spans(store.limits)[wrong]);
  }
}

function sameValues(expected: object, found: object | undefined): boolean {
  const sorted = (value: object) =>
    JSON.stringify(
      Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)),
      (_key, inner: unknown) =>
        typeof inner === "object" && inner !== null && !Array.isArray(inner)
          ? Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))
          : inner,
    );
  return found !== undefined && sorted(expected) === sorted(found);
}
