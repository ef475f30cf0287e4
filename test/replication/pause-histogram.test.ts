import t from "tap";
import { PauseHistogram } from "#lib/model/pause-histogram.js";
import { SeededRandom } from "../support/seeded-random.js";

void t.test("without a pause everything is zero", async (t) => {
  const summary = new PauseHistogram().summary();
  t.same(summary, { count: 0, totalNs: 0, p50Ns: 0, p99Ns: 0, maxNs: 0, buckets: [] });
});

void t.test("quantiles are never too low and at most an eighth too high", async (t) => {
  const random = new SeededRandom(7);
  for (let round = 0; round < 50; round += 1) {
    const histogram = new PauseHistogram();
    const pauses = Array.from({ length: 1 + random.below(400) }, () =>
      Math.floor(1024 * 2 ** (random.below(30_000) / 1000)),
    );
    for (const pause of pauses) histogram.record(pause);
    pauses.sort((a, b) => a - b);
    for (const share of [0.01, 0.5, 0.9, 0.99, 1]) {
      const exact = pauses[Math.max(1, Math.ceil(share * pauses.length)) - 1] ?? 0;
      const found = histogram.quantileNs(share);
      t.ok(found >= exact && found <= exact * 1.125, `${share}: ${found} for ${exact}`);
    }
    t.equal(
      histogram.summary().totalNs,
      pauses.reduce((sum, pause) => sum + pause, 0),
    );
  }
});

void t.test("buckets cumulate, and hold what is very short or very long", async (t) => {
  const histogram = new PauseHistogram();
  for (const pause of [0, 1, 1024, 1025, 2 ** 50]) histogram.record(pause);
  const { buckets, count, maxNs } = histogram.summary();
  t.same([count, maxNs], [5, 2 ** 50]);
  t.same(
    buckets.map((bucket) => bucket.count),
    [2, 4, 5],
  );
  t.same(buckets[1]?.atMostNs, 1152);
});
