/**
 * Which recovery points are given up. Pure: the same points give the same answer, and what
 * is left after it loses nothing more until a newer point comes.
 *
 * The clock is the chain's own (chain-clock.ts), and a point's age is its distance from the
 * newest point: while nothing new arrives, nothing ages.
 */

/** Points up to that age: one in each slot of `everyMs`; 0: all. */
export interface RetentionTier {
  readonly withinMs: number;
  readonly everyMs: number;
}

export interface RetentionPolicy {
  /** From fine to coarse. What is older than the last is given up. */
  readonly tiers: readonly RetentionTier[];
  /** However young: the oldest beyond that many go. */
  readonly maxPoints: number;
}

/** What the policy has to know of a point. */
export interface RetainablePoint {
  readonly pointId: string;
  readonly chainTimeMs: number;
  readonly consistency: "crash" | "application";
  /** Pinned, or open: it stays. Nothing else stays or goes for it. */
  readonly isHeld: boolean;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Room for a point a second in the first hour. */
export const DEFAULT_RETENTION: RetentionPolicy = {
  tiers: [
    { withinMs: HOUR_MS, everyMs: 0 },
    { withinMs: 24 * HOUR_MS, everyMs: 5 * MINUTE_MS },
    { withinMs: 7 * 24 * HOUR_MS, everyMs: HOUR_MS },
  ],
  maxPoints: 5000,
};

interface AgedPoint extends RetainablePoint {
  /** Never less than that of the point before. */
  readonly timeMs: number;
}

/** `points` in the order of their sequence; answers ids. The newest always stays. */
export function pointsToGiveUp(
  points: readonly RetainablePoint[],
  { tiers, maxPoints }: RetentionPolicy,
): ReadonlySet<string> {
  const aged = inOrder(points);
  const newest = aged.at(-1);
  if (newest === undefined) return new Set();
  const chosen = new Map<string, AgedPoint>();
  for (const point of aged) {
    const slot = slotOf(point, newest.timeMs, tiers);
    if (slot !== null) chosen.set(slot, better(chosen.get(slot), point));
  }
  const kept = new Set([...chosen.values()].map(({ pointId }) => pointId).slice(-maxPoints));
  kept.add(newest.pointId);
  const gone = aged.filter(({ pointId, isHeld }) => !isHeld && !kept.has(pointId));
  return new Set(gone.map(({ pointId }) => pointId));
}

function inOrder(points: readonly RetainablePoint[]): readonly AgedPoint[] {
  let latestMs = 0;
  return points.map((point) => {
    latestMs = Math.max(latestMs, point.chainTimeMs);
    return { ...point, timeMs: latestMs };
  });
}

/**
 * The slot that the point shares with others; null: it is too old for any. A slot is thinned
 * only when all of it is past the tier before, so that its layers are merged once, not as
 * each of its points gets there.
 */
function slotOf(
  { pointId, timeMs }: AgedPoint,
  nowMs: number,
  tiers: readonly RetentionTier[],
): string | null {
  const last = tiers.at(-1);
  if (last === undefined || nowMs - timeMs > last.withinMs) return null;
  let slot = `point ${pointId}`;
  let finerWithinMs = -1;
  for (const { everyMs, withinMs } of tiers) {
    const endMs = everyMs === 0 ? timeMs : (Math.floor(timeMs / everyMs) + 1) * everyMs;
    if (nowMs - endMs <= finerWithinMs) break;
    slot = everyMs === 0 ? `point ${pointId}` : `${everyMs} ms: ${endMs}`;
    finerWithinMs = withinMs;
  }
  return slot;
}

/** Applications were quiet at an application-consistent point; else the later one. */
function better(best: AgedPoint | undefined, point: AgedPoint): AgedPoint {
  const isWorse = best?.consistency === "application" && point.consistency === "crash";
  return best !== undefined && isWorse ? best : point;
}

/** The policy when there is no room for it: each level thins and ends at half the age. */
export function policyUnderPressure(policy: RetentionPolicy, level: number): RetentionPolicy {
  const tiers = policy.tiers.map((tier) => ({ ...tier, withinMs: tier.withinMs / 2 ** level }));
  return { ...policy, tiers };
}

/** At this level only the newest point is left, whatever the policy. */
export const HIGHEST_PRESSURE = 45;
