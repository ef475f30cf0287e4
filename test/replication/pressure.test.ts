import t from "tap";
import { type Load, MiB, type PressureResult, underPressure } from "./simulation/pressure.js";

t.setTimeout(600_000);

const GiB = 1024 * MiB;
const LINE = 64 * MiB;
const INTERVAL_MS = 60_000;
const MINUTE_MS = 60_000;

const SCENE = {
  diskMiB: 12 * 1024,
  pendingMiB: 10 * 1024,
  storeMiB: 256,
  lineBytesPerSecond: LINE,
  intervalMs: INTERVAL_MS,
};

function hotSet(sizeMiB: number, bytesPerSecond: number): Load {
  return {
    place: (_, random) => 1000 + random.below(sizeMiB),
    bytesPerSecond: () => bytesPerSecond,
  };
}

/** The longest time without a new recovery point, the time until the first one included. */
function longestGapMs({ points }: PressureResult, fromMs: number, untilMs: number): number {
  const times = points.map(({ atMs }) => atMs).filter((atMs) => atMs > fromMs);
  return Math.max(...[...times, untilMs].map((atMs, i) => atMs - (times[i - 1] ?? fromMs)));
}

const tell = (t: { comment: (text: string) => unknown }, result: PressureResult) =>
  t.comment(
    `${result.points.length} points, the first after ${Math.round((result.points[0]?.atMs ?? 0) / 1000)} s; ` +
      `${result.brokenCaptures} captures broke; the guest wrote ${(result.guestBytes / GiB).toFixed(1)} GiB, ` +
      `the line took ${(result.lineBytes / GiB).toFixed(1)} GiB`,
  );

void t.test(
  "10 GiB pending, a 256 MiB store, and a guest that rewrites more than the store at twice the line's rate: points keep coming",
  async (t) => {
    for (const sizeMiB of [192, 640, 1500]) {
      const load = hotSet(sizeMiB, 2 * LINE);
      const result = await underPressure({ ...SCENE, load, forMs: 30 * MINUTE_MS });
      tell(t, result);
      t.equal(result.pendingAtFirstMiB, SCENE.pendingMiB);
      t.same(result.wrong, [], "each point is the disk at its cut");
      t.ok(result.guestBytes > result.lineBytes * 2, "the guest wrote what the line cannot take");
      // 10 GiB take the line 160 s; the rest is the wait for the first cycle, and the drain's end.
      t.ok((result.points[0]?.atMs ?? Infinity) < 10 * MINUTE_MS, `${sizeMiB} MiB: a first point`);
      const gapMs = longestGapMs(result, 10 * MINUTE_MS, 30 * MINUTE_MS);
      t.ok(gapMs < 4 * MINUTE_MS, `${sizeMiB} MiB: ${gapMs / 1000} s without a point`);
    }
  },
);

void t.test(
  "writes all over 10 GiB, one after the other and at random, near the line's rate",
  async (t) => {
    const loads: Record<string, Load> = {
      "at random, 0.95 of the line": {
        place: (_, random) => random.below(10_240),
        bytesPerSecond: () => 0.95 * LINE,
      },
      "one after the other, 0.95 of the line": {
        place: (_, __, written) => written % 10_240,
        bytesPerSecond: () => 0.95 * LINE,
      },
      "at random, 1.3 of the line": {
        place: (_, random) => random.below(10_240),
        bytesPerSecond: () => 1.3 * LINE,
      },
    };
    for (const [name, load] of Object.entries(loads)) {
      const result = await underPressure({ ...SCENE, load, forMs: 30 * MINUTE_MS });
      tell(t, result);
      t.same(result.wrong, [], "each point is the disk at its cut");
      const gapMs = longestGapMs(result, 0, 30 * MINUTE_MS);
      t.ok(gapMs < 15 * MINUTE_MS, `${name}: ${gapMs / 1000} s without a point`);
    }
  },
);

void t.test("a burst of twice the line's rate over all of the disk, then half of it", async (t) => {
  const load: Load = {
    place: (_, random) => random.below(10_240),
    bytesPerSecond: (nowMs) => (nowMs < 7 * MINUTE_MS ? 2 * LINE : LINE / 2),
  };
  const result = await underPressure({ ...SCENE, load, forMs: 30 * MINUTE_MS });
  tell(t, result);
  t.same(result.wrong, [], "each point is the disk at its cut");
  const gapMs = longestGapMs(result, 7 * MINUTE_MS, 30 * MINUTE_MS);
  t.ok(gapMs < 5 * MINUTE_MS, `${gapMs / 1000} s without a point`);
});

void t.test(
  "planted: without a drain, or with one that gives up at once, no point comes",
  async (t) => {
    const load = hotSet(1500, 2 * LINE);
    const undrained = { captureBytes: Infinity, stalledPasses: 0 };
    const hasty = { stalledPasses: 1 };
    for (const limits of [undrained, hasty]) {
      const result = await underPressure({ ...SCENE, load, limits, forMs: 10 * MINUTE_MS });
      t.equal(result.points.length, 0);
      t.ok(result.brokenCaptures > 0);
    }
  },
);

void t.test("planted: a cut that is read without a capture is no point", async (t) => {
  const load = hotSet(192, 2 * LINE);
  const scene = { ...SCENE, load, withoutCaptures: true };
  const result = await underPressure({ ...scene, forMs: 10 * MINUTE_MS });
  t.not(result.wrong.length, 0);
});
