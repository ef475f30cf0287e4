import t from "tap";
import { type Bar, checkBar, readBars } from "../../benchmarks/bars.js";
import { metricOf, row } from "./rows.js";

const BAR: Bar = {
  name: "reads",
  workload: "nbd",
  case: "4k randread 1x1",
  subject: "tidemark",
  metric: "iops",
  beside: ["qemu-nbd", "nbdkit"],
  atLeast: 0.9,
};

void t.test("a bar is a ratio to the better peer", async (t) => {
  const peers = [row("qemu-nbd", [50]), row("nbdkit", [100])];
  t.match(checkBar(BAR, [...peers, row("tidemark", [90])], metricOf), { isMet: true });
  const missed = checkBar(BAR, [...peers, row("tidemark", [89])], metricOf);
  t.equal(missed.isMet, false);
  t.match(missed.text, /NOT MET reads: 0\.89x of nbdkit .*4k randread 1x1 \/ tidemark/);
});

void t.test("a bar may be a ratio to the worse peer", async (t) => {
  const { beside: besideWorst, ...rest } = BAR;
  const peers = [row("qemu-nbd", [50]), row("nbdkit", [100])];
  const bar = { ...rest, besideWorst };
  t.match(checkBar(bar, [...peers, row("tidemark", [45])], metricOf), { isMet: true });
  t.match(checkBar(bar, [...peers, row("tidemark", [44])], metricOf).text, /0\.88x of qemu-nbd/);
});

void t.test("one peer is enough to judge by; none is not", async (t) => {
  const own = row("tidemark", [90]);
  t.match(checkBar(BAR, [own, row("qemu-nbd", [100])], metricOf), { isMet: true });
  t.match(checkBar(BAR, [own], metricOf), { isMet: false, text: /none of/ });
});

void t.test("a bar whose row is missing is not met", async (t) => {
  t.match(checkBar(BAR, [row("nbdkit", [1])], metricOf), { isMet: false, text: /not measured/ });
});

void t.test("a bar without peers bounds the value itself", async (t) => {
  const { beside: _beside, atLeast: _atLeast, ...rest } = BAR;
  const bar = { ...rest, atMost: 10 };
  t.match(checkBar(bar, [row("tidemark", [9])], metricOf), { isMet: true });
  t.match(checkBar(bar, [row("tidemark", [11])], metricOf), { isMet: false });
});

void t.test("the project's bars can be read", async (t) => {
  const bars = await readBars(new URL("../../benchmarks/bars.json", import.meta.url));
  t.ok(bars.length > 0);
});
