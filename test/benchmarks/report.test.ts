import t from "tap";
import { disturbanceNote, formatRows } from "../../benchmarks/report.js";
import { formatNumber, formatTable } from "../../benchmarks/table.js";
import { IOPS, row } from "./rows.js";

void t.test("columns line up: names to the left, numbers to the right", async (t) => {
  const text = formatTable(
    ["case", "subject", "IOPS"],
    [
      ["a", "tidemark", "5"],
      ["bcdef", "x", "1234"],
    ],
  );
  t.same(text.split("\n"), [
    "case   subject   IOPS",
    "a      tidemark     5",
    "bcdef  x         1234",
  ]);
});

void t.test("large numbers are short", async (t) => {
  t.equal(formatNumber(9999.4, 0), "9999");
  t.equal(formatNumber(211_340, 0), "211.3k");
  t.equal(formatNumber(3_000_000, 0), "3.00M");
  t.equal(formatNumber(3.456, 2), "3.46");
});

const WORKLOAD = {
  name: "nbd",
  summary: "a summary",
  metrics: [IOPS, { key: "absent", title: "absent", better: "lower", digits: 0 }],
  peerRatio: { metric: "iops", peers: ["nbdkit"] },
} as const;

void t.test("a row shows the median, the spread and the ratio to the best peer", async (t) => {
  const text = formatRows(WORKLOAD, [row("tidemark", [50, 200, 100]), row("nbdkit", [40])]);
  t.match(text, /tidemark +100 \(50\.\.200\) +2\.50x +0 %/);
  t.match(text, /nbdkit +40 +0 %/);
  t.notMatch(text, /absent/);
});

void t.test("rows that strangers disturbed are marked", async (t) => {
  const calm = row("tidemark", [1]);
  const disturbed = { ...calm, othersCpuPercent: 42 };
  t.equal(disturbanceNote([calm]), null);
  t.match(disturbanceNote([calm, disturbed]), /1 of 2 rows/);
  t.match(formatRows(WORKLOAD, [disturbed]), /42 % !/);
});
