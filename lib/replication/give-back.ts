import { toTidemarkError } from "../model/errors.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import type { RelationshipContext } from "./relationship-context.js";

/**
 * Returns the bits to pending. Changes that cannot be given back now are kept
 * as orphans and ended before the next cut: unended they would hold it up.
 */
export async function giveBack(
  context: RelationshipContext,
  changes: TargetChanges,
): Promise<void> {
  try {
    await changes.giveBack();
  } catch (thrown) {
    context.orphans.add(changes);
    context.onRetry(toTidemarkError(thrown));
  }
}

export async function endOrphans({ orphans }: RelationshipContext): Promise<void> {
  for (const changes of orphans) {
    await changes.giveBack().catch((thrown: unknown) => {
      // CLOSED: they were ended by other means.
      if (toTidemarkError(thrown).code !== "CLOSED") throw thrown;
    });
    orphans.delete(changes);
  }
}
