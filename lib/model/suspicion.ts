/**
 * Why blocks are suspect, in the order of the bits of the bitmap file
 * (native/bitmap/suspicion.h): a cause keeps its place for ever.
 */
export const SUSPICION_CAUSES = [
  "unclean end",
  "power loss",
  "lost writes",
  "intent log trouble",
  "replaced",
  "size changed",
  "modified while the filter was away",
  "sampled content differs",
  "no fingerprint",
  "bitmap lost",
  "replica differs",
  "ordered",
  "taken over by force",
  "written past the filter",
  "a write was not marked",
] as const;

export type SuspicionCause = (typeof SUSPICION_CAUSES)[number];

/** The causes of a set of bits; bits that this build does not know are left out. */
export function suspicionCausesOf(bits: number): SuspicionCause[] {
  return SUSPICION_CAUSES.filter((_, index) => (bits & (1 << index)) !== 0);
}
