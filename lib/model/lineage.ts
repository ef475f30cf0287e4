/**
 * Who may write to a VM's replicated state, generation after generation. Every
 * promotion adds one, and both sides of a relationship judge by it, so that of two
 * hosts that ran the VM one knows that it is not the one that goes on.
 */
import { isDeepStrictEqual } from "node:util";
import type { Generation } from "./disk.js";

export const SUCCESSION_CAUSES = [
  "enabled",
  "planned-failover",
  "unplanned-failover",
  "cancelled",
  /** The replica goes on as it is, with another host as its primary. */
  "taken-over",
] as const;

export interface LineageEntry {
  readonly generation: Generation;
  /** The id of the generation that it follows; null: the first. */
  readonly parentId: string | null;
  /** The recovery point that its holder went on from; null: the first, or the state as it was. */
  readonly forkPointId: string | null;
  /**
   * Names the host that may write by the generation with which it came to do so: the
   * generation's own id, or that of an earlier one which got the VM back.
   */
  readonly holderId: string;
  readonly cause: (typeof SUCCESSION_CAUSES)[number];
}

/** Oldest first, never empty; the last one is the present one. */
export type Lineage = readonly LineageEntry[];

/** The replica is to go from one generation to the next. */
export interface Succession {
  readonly vmId: string;
  /** Must be the present one. */
  readonly from: Generation;
  readonly to: LineageEntry;
}

export function sameGeneration(a: Generation, b: Generation): boolean {
  return a.number === b.number && a.id === b.id;
}

export function firstEntry(generation: Generation): LineageEntry {
  const { id: holderId } = generation;
  return { generation, parentId: null, forkPointId: null, holderId, cause: "enabled" };
}

export function successorOf(
  from: Generation,
  id: string,
  rest: Pick<LineageEntry, "forkPointId" | "holderId" | "cause">,
): LineageEntry {
  return { generation: { number: from.number + 1, id }, parentId: from.id, ...rest };
}

export function presentEntry(lineage: Lineage): LineageEntry {
  const present = lineage.at(-1);
  if (present === undefined) throw new Error("a lineage without a generation");
  return present;
}

/** What a succession to `to` makes of the lineage; null when it does not follow. */
export function succeed(lineage: Lineage, { from, to }: Succession): Lineage | null {
  const present = presentEntry(lineage);
  if (isDeepStrictEqual(present, to)) return lineage;
  const follows =
    sameGeneration(present.generation, from) &&
    to.generation.number === from.number + 1 &&
    to.parentId === from.id &&
    !lineage.some(({ generation }) => generation.id === to.generation.id);
  return follows ? [...lineage, to] : null;
}

/** Whether it made the VM the replica's host's. */
export function isPromotion({ cause }: LineageEntry): boolean {
  return cause === "planned-failover" || cause === "unplanned-failover";
}

/**
 * What a host is by another's lineage: its "holder"; one that got it back
 * ("returned") and has to take the present generation; one whose VM goes on elsewhere
 * ("superseded"); or of a history that is not this one ("foreign"): split brain.
 */
export type Standing = "holder" | "returned" | "superseded" | "foreign";

export function standingIn(
  lineage: Lineage,
  own: { readonly generation: Generation; readonly holderId: string },
): Standing {
  const present = presentEntry(lineage);
  if (!lineage.some(({ generation }) => sameGeneration(generation, own.generation))) {
    return "foreign";
  }
  if (present.holderId !== own.holderId) return "superseded";
  return sameGeneration(present.generation, own.generation) ? "holder" : "returned";
}
