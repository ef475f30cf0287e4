/** The chooser against a line and a processor that are simulated, with an oracle that tries every level. */
import t from "tap";
import {
  ADAPTIVE_LEVELS,
  AdaptiveCompression,
  type SegmentMeasure,
} from "#lib/transport/adaptive-compression.js";
import { Random } from "../replication/simulation/random.js";

const MIB = 1024 * 1024;
const CONTENT_BYTES = 8 * MIB;

/** MiB a second and what is left, of system files as zstd has them. */
const LEVELS = new Map([
  [0, { speed: Number.POSITIVE_INFINITY, ratio: 1 }],
  [1, { speed: 500, ratio: 0.42 }],
  [3, { speed: 280, ratio: 0.38 }],
  [6, { speed: 110, ratio: 0.35 }],
  [9, { speed: 55, ratio: 0.34 }],
  [12, { speed: 25, ratio: 0.335 }],
  [15, { speed: 10, ratio: 0.33 }],
]);

interface World {
  /** MiB a second that the line takes. */
  lineSpeed: number;
  isCompressible: boolean;
}

function send({ lineSpeed, isCompressible }: World, level: number): SegmentMeasure {
  const { speed, ratio } = LEVELS.get(level) ?? { speed: 1, ratio: 1 };
  const wireBytes = CONTENT_BYTES * (isCompressible ? ratio : 1);
  const compressMs = (CONTENT_BYTES / MIB / speed) * 1000;
  const lineMs = (wireBytes / MIB / lineSpeed) * 1000;
  return { level, contentBytes: CONTENT_BYTES, wireBytes, compressMs, lineMs };
}

const timeOf = ({ compressMs, lineMs }: SegmentMeasure) => compressMs + lineMs;

/** The levels of the last segments, after enough of them. */
function settled(world: World, chooser = new AdaptiveCompression()): number[] {
  const levels: number[] = [];
  for (let count = 0; count < 400; count += 1) {
    const level = chooser.nextLevel();
    chooser.note(send(world, level));
    levels.push(level);
  }
  return levels.slice(-64);
}

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

void t.test("over any line, it comes close to the best level there is", async (t) => {
  for (const lineSpeed of [0.5, 1, 3, 10, 30, 100, 300, 1000, 3000]) {
    const world = { lineSpeed, isCompressible: true };
    const best = Math.min(...ADAPTIVE_LEVELS.map((level) => timeOf(send(world, level))));
    const levels = settled(world);
    const own = mean(levels.map((level) => timeOf(send(world, level))));
    t.ok(own < 1.3 * best, `${lineSpeed} MiB/s: ${own} ms at ${levels.at(-1)}, best ${best} ms`);
  }
});

void t.test("it settles: a level in two directions is none", async (t) => {
  for (const lineSpeed of [1, 3, 10, 30, 100, 300]) {
    const levels = settled({ lineSpeed, isCompressible: true });
    t.equal(new Set(levels).size, 1, `${lineSpeed} MiB/s: ${[...new Set(levels)].join(", ")}`);
  }
});

void t.test("a thin line is worth more work than a fast one", async (t) => {
  const [thin, fast] = [1, 400].map((lineSpeed) =>
    mean(settled({ lineSpeed, isCompressible: true })),
  );
  t.ok((thin ?? 0) > (fast ?? 0), `${thin} and ${fast}`);
});

void t.test("what does not compress is not compressed, but for a probe now and then", async (t) => {
  for (const lineSpeed of [1, 100, 1000]) {
    const levels = settled({ lineSpeed, isCompressible: false });
    const compressed = levels.filter((level) => level !== 0);
    t.ok(compressed.length <= levels.length / 16, `${lineSpeed} MiB/s: ${compressed.length}`);
    t.ok(compressed.every((level) => level === 1));
  }
});

void t.test("it follows when the line or the data become others", async (t) => {
  const chooser = new AdaptiveCompression();
  const world = { lineSpeed: 2, isCompressible: false };
  t.equal(settled(world, chooser)[0], 0);
  world.isCompressible = true;
  t.ok(mean(settled(world, chooser)) > 3);
  world.lineSpeed = 3000;
  t.ok(mean(settled(world, chooser)) < 1);
});

void t.test("small cycles are judged together", async (t) => {
  const chooser = new AdaptiveCompression();
  const small = { contentBytes: 64 * 1024, wireBytes: 30 * 1024, compressMs: 0.1, lineMs: 10 };
  const levels: number[] = [];
  for (let cycle = 0; cycle < 40; cycle += 1) {
    chooser.beginCycle();
    const level = chooser.nextLevel();
    levels.push(level);
    chooser.note({ ...small, level });
  }
  t.equal(levels[10], 1, "too little to tell");
  t.ok((levels[39] ?? 0) > 1);
});

void t.test("no measure leads out of the levels", async (t) => {
  const random = new Random(7);
  const chooser = new AdaptiveCompression();
  for (let count = 0; count < 5000; count += 1) {
    const level = chooser.nextLevel();
    if (!ADAPTIVE_LEVELS.some((known) => known === level)) t.fail(String(level));
    const contentBytes = random.below(8 * MIB);
    const wireBytes = random.below(8 * MIB);
    const [compressMs, lineMs] = [random.below(3) * 100, random.below(3) * 100];
    chooser.note({ level, contentBytes, wireBytes, compressMs, lineMs });
    if (random.chance(0.1)) chooser.beginCycle();
  }
});
