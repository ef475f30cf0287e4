import t from "tap";
import { compareRows } from "../../benchmarks/compare.js";
import { formatComparison } from "../../benchmarks/report.js";
import { metricOf, row } from "./rows.js";

function verdictOf(before: readonly number[], now: readonly number[], better: "higher" | "lower") {
  const metric = () => ({ key: "iops", title: "IOPS", better, digits: 0 }) as const;
  return compareRows([row("tidemark", before)], [row("tidemark", now)], metric)[0];
}

void t.test("a row is marked only when the spreads do not touch", async (t) => {
  t.match(verdictOf([10, 12], [12, 20], "higher"), { verdict: "same" });
  t.match(verdictOf([10, 12], [13, 20], "higher"), { verdict: "BETTER" });
  t.match(verdictOf([10, 12], [5, 9], "higher"), { verdict: "WORSE" });
});

void t.test("where lower is better, higher is worse", async (t) => {
  t.match(verdictOf([10, 12], [13, 20], "lower"), { verdict: "WORSE" });
  t.match(verdictOf([10, 12], [5, 9], "lower"), { verdict: "BETTER" });
});

void t.test("the ratio is new over old", async (t) => {
  t.match(verdictOf([100], [150], "higher"), { oldMedian: 100, newMedian: 150, ratio: 1.5 });
});

void t.test("rows that one side lacks are left out", async (t) => {
  t.same(compareRows([row("nbdkit", [1])], [row("tidemark", [1])], metricOf), []);
  t.same(compareRows([row("a", [1], "x")], [row("a", [1], "y")], metricOf), []);
});

void t.test("the comparison shows the ratio and the mark", async (t) => {
  const text = formatComparison(
    compareRows([row("tidemark", [100])], [row("tidemark", [50])], metricOf),
    metricOf,
  );
  t.match(text.split("\n")[1], /nbd: 4k randread 1x1 +tidemark +IOPS +100 +50 +0\.50x +WORSE/);
});
