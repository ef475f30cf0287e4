import type { SeededRandom } from "../seeded-random.js";

export const ROUND_KINDS = [
  "test failover",
  "unplanned, cancelled",
  "unplanned, reversed",
  "planned",
  "planned, called off",
] as const;
export type RoundKind = (typeof ROUND_KINDS)[number];

/** The host that has the VM when the round begins, and the one that follows it. */
export type Side = "primary" | "replica";

/** What a round does, all of it told by the seed before it begins. */
export interface RoundPlan {
  readonly kind: RoundKind;
  /** 0: the oldest point; under 1. */
  readonly pointFraction: number;
  /** What the old primary does while the VM is failed over without it. */
  readonly oldPrimary: "goes on" | "is dead" | "hangs";
  /** Whether it finds out before a failover is cancelled. */
  readonly isNoticed: boolean;
  /** When the points are given up and the disks become plain ones. */
  readonly completed: "at once" | "before the reversal" | "after the reversal";
  /** "name:n"; a side that is to die there. */
  readonly failpoint: { readonly side: Side; readonly name: string } | null;
  /** And one that is killed so long after the round began. */
  readonly kill: { readonly side: Side; readonly afterMs: number } | null;
}

interface Failpoint {
  readonly side: Side;
  readonly name: string;
  /** The passage that kills is one of the first so many. */
  readonly passages: number;
}

const at = (side: Side, passages: number, ...names: readonly string[]): readonly Failpoint[] =>
  names.map((name) => ({ side, name, passages }));

/** Of writes and cycles, on either side. */
const ALWAYS = [
  ...at("primary", 50, "mark", "write"),
  ...at("primary", 2, "put", "in-doubt", "clear", "bitmap.take", "bitmap.commit"),
  ...at("replica", 2, "commit", "rename", "acknowledge", "layer.append", "layer.seal"),
];
const PROMOTING = [
  ...at("replica", 1, "succession", "succeeded", "promoted"),
  ...at("replica", 2, "bitmap.add_target", "scratch.data_synced", "scratch.journal_written"),
  ...at("primary", 1, "withheld"),
];
const HANDING_OVER = at("primary", 1, "hand-over.noted", "hand-over.answered");
/** Completing it, and the old primary's return. */
const COMPLETING = [
  ...at("replica", 1, "given-away.noted", "given-away.moved", "disks.settled"),
  ...at("replica", 2, "fold.marks_made", "fold.frozen", "fold.all_marked", "fold.finished"),
  ...at("replica", 3, "fold.copied", "fold.synced", "fold.marked"),
  ...at("replica", 1, "returned.answered"),
  ...at("primary", 1, "returned.released", "returned.adopted"),
];

/** Where a round of that kind leaves something half done; by who does it. */
export const FAILPOINTS: Readonly<Record<RoundKind, readonly Failpoint[]>> = {
  "test failover": ALWAYS,
  "unplanned, cancelled": [...ALWAYS, ...PROMOTING],
  "unplanned, reversed": [...PROMOTING, ...COMPLETING],
  planned: [...PROMOTING, ...HANDING_OVER, ...COMPLETING],
  "planned, called off": [...PROMOTING, ...HANDING_OVER],
};

/** Two thirds of the rounds have a failpoint, a third are killed at whatever moment it is. */
export function planRound(random: SeededRandom, number: number): RoundPlan {
  const kind = ROUND_KINDS[number % ROUND_KINDS.length] ?? "planned";
  const pick = <T>(of: readonly T[]) => of[random.below(of.length)] as T;
  const { side, name, passages } = pick(FAILPOINTS[kind]);
  const failpoint = { side, name: `${name}:${1 + random.below(passages)}` };
  const kill = { side: pick(["primary", "replica"] as const), afterMs: random.below(3000) };
  return {
    kind,
    pointFraction: random.below(1000) / 1000,
    oldPrimary: pick(["goes on", "is dead", "hangs"] as const),
    isNoticed: random.below(2) === 0,
    completed: pick(["at once", "before the reversal", "after the reversal"] as const),
    failpoint: random.below(3) > 0 ? failpoint : null,
    kill: random.below(3) === 0 ? kill : null,
  };
}
