import t from "tap";
import { parseArguments } from "../../benchmarks/arguments.js";
import { BenchError } from "../../benchmarks/bench-error.js";

void t.test("without arguments everything has its default size", async (t) => {
  const options = parseArguments([]);
  t.equal(options.workloads, null);
  t.equal(options.diskPath, null);
  t.match(options.sizing, { isQuick: false, rounds: 5, seconds: 2, scratchBytes: 512 * 2 ** 20 });
});

void t.test("--quick makes everything tiny, and single sizes can still be given", async (t) => {
  const { sizing } = parseArguments(["--quick", "--rounds", "2"]);
  t.match(sizing, { isQuick: true, rounds: 2, scratchBytes: 32 * 2 ** 20 });
  t.ok(sizing.seconds < 1);
});

void t.test("a sweep takes lists", async (t) => {
  const lists = "--block-size 4k,64K --granularity 64k --queue-depth 1,32 --mix randrw,read";
  const { sweep } = parseArguments(["--disk", "/nowhere", ...lists.split(" ")]);
  t.same(sweep, {
    blockSizes: [4096, 65536],
    granularities: [65536],
    queueDepths: [1, 32],
    connections: [1],
    mixes: ["randrw", "read"],
  });
});

const REFUSED: readonly (readonly [string, RegExp])[] = [
  ["--no-such-option", /Cannot understand the arguments/],
  ["stray", /Cannot understand the arguments/],
  ["--quick --check", /means nothing/],
  ["--block-size 4k", /needs --disk/],
  ["--destroy-data", /no --disk/],
  ["--rounds 0", /--rounds/],
  ["--rounds 1.5", /whole number/],
  ["--rounds many", /--rounds/],
  ["--seconds -1", /--seconds|ambiguous|arguments/],
  ["--size 1k", /--size/],
  ["--size 12parsec", /--size/],
  ["--disk /x --block-size 5000", /power of two/],
  ["--disk /x --granularity 512", /--granularity/],
  ["--disk /x --queue-depth 0", /--queue-depth/],
  ["--disk /x --connections 9", /--connections/],
  ["--disk /x --mix trim", /none of randread/],
  ["--disk /x --mix randread,,write", /--mix/],
];

for (const [line, message] of REFUSED) {
  void t.test(`${line} is refused in one sentence`, async (t) => {
    t.throws(() => parseArguments(line.split(" ")), message);
    t.throws(() => parseArguments(line.split(" ")), BenchError);
  });
}
