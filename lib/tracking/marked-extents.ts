import type { ExtentList } from "../model/block-hashes.js";
import type { MapKind, NativeTrackedDevice } from "./binding.js";

/**
 * In the order in which a mark may move on while they are looked at; each move marks its
 * destination before it clears its source.
 */
export const MARK_MAPS: readonly MapKind[] = ["live", "pending", "inFlight", "staged", "suspect"];

const EXTENTS_AT_ONCE = 1024;

/** The marked extents of a map that begin within the range, a page at a time. */
export function* markedExtents(
  native: NativeTrackedDevice,
  map: MapKind,
  slot: number,
  { beginBytes, lengthBytes }: { readonly beginBytes: number; readonly lengthBytes: number },
): Generator<ExtentList> {
  for (let at = beginBytes; at < beginBytes + lengthBytes; ) {
    const pairs = native.dirtyExtents(map, slot, at, EXTENTS_AT_ONCE, lengthBytes);
    if (pairs.length === 0) return;
    const page = Array.from(pairs);
    yield page;
    at = (page.at(-2) ?? 0) + (page.at(-1) ?? 0);
  }
}
