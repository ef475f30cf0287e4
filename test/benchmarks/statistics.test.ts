import t from "tap";
import fc from "fast-check";
import type { Trial } from "../../benchmarks/model.js";
import { inOrder } from "../../benchmarks/runner.js";
import { bestOf, median, summarize, toRows } from "../../benchmarks/statistics.js";
import { row } from "./rows.js";

void t.test("a median has as many values on either side", async (t) => {
  const property = fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
    const middle = median(values);
    const below = values.filter((value) => value < middle).length;
    const above = values.filter((value) => value > middle).length;
    return below <= values.length / 2 && above <= values.length / 2;
  });
  fc.assert(property, { seed: 1 });
  t.equal(median([4, 1, 3, 2]), 2.5);
  t.throws(() => median([]), /no value/);
});

void t.test("a summary keeps the smallest and largest sample", async (t) => {
  t.match(summarize([5, 1, 9]), { median: 5, min: 1, max: 9, samples: [5, 1, 9] });
});

void t.test("samples of one case and subject make one row, in the order they came", async (t) => {
  const sample = (caseName: string, subject: string, iops: number, othersCpuPercent: number) => ({
    measurement: { caseName, subject, values: { iops } },
    othersCpuPercent,
  });
  const rows = toRows("nbd", [
    sample("a", "x", 1, 10),
    sample("a", "y", 5, 0),
    sample("a", "x", 3, 30),
    sample("b", "x", 7, 0),
  ]);
  t.same(
    rows.map(({ caseName, subject, metrics }) => [caseName, subject, metrics["iops"]?.median]),
    [
      ["a", "x", 2],
      ["a", "y", 5],
      ["b", "x", 7],
    ],
  );
  t.equal(rows[0]?.othersCpuPercent, 20);
});

void t.test(
  "the best of the peers is the highest or the lowest, and only of the same case",
  async (t) => {
    const rows = [
      row("nbdkit", [10]),
      row("qemu-nbd", [20]),
      row("qemu-nbd", [99], "other"),
      row("tidemark", [50]),
    ];
    const peers = ["nbdkit", "qemu-nbd"];
    const best = (better: "higher" | "lower") =>
      bestOf(rows, "4k randread 1x1", peers, "iops", better);
    t.same(best("higher"), { subject: "qemu-nbd", value: 20 });
    t.same(best("lower"), { subject: "nbdkit", value: 10 });
    t.equal(bestOf(rows, "other", ["nbdkit"], "iops", "higher"), null);
  },
);

void t.test(
  "trials of a group alternate, and each round begins with another subject",
  async (t) => {
    const trial = (name: string): Trial => ({ name, run: () => Promise.resolve([]) });
    const [a, b, c] = [trial("a"), trial("b"), trial("c")];
    const order = [...inOrder({ groups: [[a, b, c], [a]], rounds: 3 })];
    t.equal(order.map(({ name }) => name).join(""), "abcbcacab" + "aaa");
  },
);
