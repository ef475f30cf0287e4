import type { BlockNode } from "./block-graph.js";
import { filterOfPlace } from "./filter-place.js";
import { requireAnswering } from "./require-answering.js";

/** False of a filter that is dead: QEMU flushes what it deletes, and would stand still with its guest. */
export async function isAnswering({ place }: BlockNode, signal: AbortSignal): Promise<boolean> {
  const filter = filterOfPlace(place);
  if (filter === null) return true;
  return requireAnswering(filter, signal).then(
    () => true,
    () => false,
  );
}
