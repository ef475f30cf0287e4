/** T46, G5: which points the policy gives up, against a model that looks at each point alone. */
import t from "tap";
import type { PointManifest } from "#lib/replica/documents.js";
import { nextChainTimeMs } from "#lib/replica/chain-clock.js";
import {
  DEFAULT_RETENTION,
  HIGHEST_PRESSURE,
  pointsToGiveUp,
  policyUnderPressure,
  type RetainablePoint,
  type RetentionPolicy,
} from "#lib/replica/retention-policy.js";
import { SeededRandom } from "../support/seeded-random.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const between = (random: SeededRandom, from: number, to: number) =>
  from + random.below(to - from + 1);

function point(sequence: number, chainTimeMs: number, parts: Partial<RetainablePoint> = {}) {
  return {
    pointId: `p${sequence}`,
    chainTimeMs,
    consistency: "crash",
    isHeld: false,
    ...parts,
  } as const;
}

/** Every `everyMs` for `spanMs`, the last at `endMs`. */
function row(endMs: number, spanMs: number, everyMs: number): RetainablePoint[] {
  const count = Math.floor(spanMs / everyMs);
  return Array.from({ length: count + 1 }, (_, i) => point(i, endMs - (count - i) * everyMs));
}

function left(points: readonly RetainablePoint[], policy: RetentionPolicy = DEFAULT_RETENTION) {
  const gone = pointsToGiveUp(points, policy);
  return points.filter(({ pointId }) => !gone.has(pointId));
}

/** The rules, each point alone against all others. */
function modelKeeps(
  points: readonly RetainablePoint[],
  at: number,
  { tiers }: RetentionPolicy,
): boolean {
  const me = points[at];
  const now = points.at(-1)?.chainTimeMs ?? 0;
  if (me === undefined) throw new Error("no such point");
  if (me.isHeld || at === points.length - 1) return true;
  const isTooOld = (one: RetainablePoint) => now - one.chainTimeMs > (tiers.at(-1)?.withinMs ?? -1);
  if (isTooOld(me)) return false;
  const slotEnd = (time: number, every: number) => time - (time % every) + every;
  const tierOf = ({ chainTimeMs }: RetainablePoint) => {
    let tier = 0;
    while (tier + 1 < tiers.length) {
      const end = slotEnd(chainTimeMs, tiers[tier + 1]?.everyMs ?? 1);
      if (end >= now - (tiers[tier]?.withinMs ?? 0)) break;
      tier += 1;
    }
    return tier;
  };
  const tier = tierOf(me);
  const every = tiers[tier]?.everyMs ?? 0;
  if (every === 0) return true;
  return points.every((other, i) => {
    if (i === at || isTooOld(other) || tierOf(other) !== tier) return true;
    if (slotEnd(other.chainTimeMs, every) !== slotEnd(me.chainTimeMs, every)) return true;
    const isPreferred =
      other.consistency === me.consistency ? i > at : other.consistency === "application";
    return !isPreferred;
  });
}

void t.test("G5: the policy gives up what the model does, and then nothing more", async (t) => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = new SeededRandom(seed);
    const policy = {
      tiers: [
        { withinMs: between(random, 1, 20) * MINUTE, everyMs: 0 },
        { withinMs: between(random, 30, 90) * MINUTE, everyMs: between(random, 1, 5) * MINUTE },
        { withinMs: between(random, 2, 9) * HOUR, everyMs: between(random, 10, 60) * MINUTE },
      ],
      maxPoints: 1000,
    };
    let time = 1_700_000_000_000;
    const points = Array.from({ length: between(random, 1, 150) }, (_, i) => {
      time += between(random, 0, 8) * between(random, 0, MINUTE);
      const consistency = between(random, 0, 5) === 0 ? "application" : "crash";
      return point(i, time, { consistency, isHeld: between(random, 0, 20) === 0 });
    });
    const kept = left(points, policy);
    const expected = points.filter((_, at) => modelKeeps(points, at, policy));
    if (JSON.stringify(kept) !== JSON.stringify(expected)) t.fail(`seed ${seed}`);
    if (left(kept, policy).length !== kept.length) t.fail(`seed ${seed}: more goes at once`);
  }
});

void t.test("the default keeps an hour whole, 5 minutes for a day, hours for a week", async (t) => {
  const end = 1_700_000_000_000;
  const kept = left(row(end, 9 * DAY, 30 * SECOND));
  const countOf = (from: number, to: number) =>
    kept.filter(({ chainTimeMs }) => end - chainTimeMs >= from && end - chainTimeMs < to).length;
  t.equal(countOf(0, HOUR), 120);
  t.equal(countOf(2 * HOUR, 24 * HOUR), 22 * 12);
  t.equal(countOf(26 * HOUR, 7 * DAY), 7 * 24 - 26);
  t.equal(countOf(7 * DAY + 1, 9 * DAY), 0);
});

void t.test("of a slot the application-consistent point stays, else the last", async (t) => {
  const slot = 1_699_999_800_000;
  const ids = [0, 1, 2].map((i) => point(i, slot + i * MINUTE));
  const newest = point(9, slot + 2 * HOUR);
  t.same(
    left([...ids, newest]).map(({ pointId }) => pointId),
    ["p2", "p9"],
  );
  const quiet = ids.map((one, i) =>
    i === 1 ? { ...one, consistency: "application" as const } : one,
  );
  t.same(
    left([...quiet, newest]).map(({ pointId }) => pointId),
    ["p1", "p9"],
  );
});

void t.test("pinned and opened points stay, and the newest, under any pressure", async (t) => {
  const points = row(1_700_000_000_000, 10 * DAY, HOUR);
  const held = points.map((one, i) => (i === 3 ? { ...one, isHeld: true } : one));
  let before = held.length + 1;
  for (let level = 0; level <= HIGHEST_PRESSURE; level += 1) {
    const kept = left(held, policyUnderPressure(DEFAULT_RETENTION, level));
    t.ok(kept.length <= before, `level ${level}: ${kept.length}`);
    before = kept.length;
    t.ok(kept.includes(held[3] ?? point(0, 0)));
    t.equal(kept.at(-1), held.at(-1));
  }
  t.equal(before, 2, "at last nothing else does");
  t.equal(left(points, { ...DEFAULT_RETENTION, maxPoints: 7 }).length, 7);
  t.equal(left([], DEFAULT_RETENTION).length, 0);
});

/** Points a minute apart, by what the two clocks show at each. */
function chain(count: number, clocks: (minute: number) => readonly [number, number]) {
  let head: PointManifest | null = null;
  return Array.from({ length: count }, (_, minute) => {
    const [takenAtMs, receivedAtMs] = clocks(minute);
    const chainTimeMs = nextChainTimeMs(head, takenAtMs, receivedAtMs);
    head = { point: { takenAtMs }, receivedAtMs, chainTimeMs } as PointManifest;
    return point(minute, chainTimeMs);
  });
}

const START = 1_700_000_000_000;
const at = (minute: number) => START + minute * MINUTE;
const YEARS = 3650 * DAY;

void t.test(
  "T46: no clock that jumps, stands or runs backwards changes what is kept",
  async (t) => {
    const count = 3 * 24 * 60;
    const normal = left(chain(count, (minute) => [at(minute), at(minute)])).length;
    const jump = (minute: number, byMs: number, until = count) =>
      at(minute) + (minute >= 2000 && minute < until ? byMs : 0);
    const oddities: Record<string, (minute: number) => readonly [number, number]> = {
      "the primary's is years ahead": (m) => [at(m) + YEARS, at(m)],
      "the primary's is years behind": (m) => [at(m) - YEARS / 2, at(m)],
      "the primary's jumps ahead": (m) => [jump(m, YEARS), at(m)],
      "the primary's jumps back": (m) => [jump(m, -DAY), at(m)],
      "the primary's jumps ahead for a minute": (m) => [jump(m, YEARS, 2001), at(m)],
      "the replica's jumps ahead": (m) => [at(m), jump(m, YEARS)],
      "the replica's jumps back": (m) => [at(m), jump(m, -DAY)],
      "the replica's jumps back for an hour": (m) => [at(m), jump(m, -YEARS / 2, 2060)],
      "the primary's stands still": (m) => [START, at(m)],
      "the replica's stands still": (m) => [at(m), START],
      "the primary's runs backwards": (m) => [START - m * MINUTE, at(m)],
    };
    for (const [what, clocks] of Object.entries(oddities)) {
      const kept = left(chain(count, clocks)).length;
      t.ok(Math.abs(kept - normal) <= 15, `${what}: ${kept}, normally ${normal}`);
    }
  },
);

void t.test("T46: two clocks that stand still keep no more than the largest number", async (t) => {
  const points = chain(2000, () => [START, START]);
  t.equal(left(points, { ...DEFAULT_RETENTION, maxPoints: 500 }).length, 500);
});
