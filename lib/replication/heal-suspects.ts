/**
 * Compares what is suspect with the replica's head before the next cut, so that only
 * what differs travels. Nothing here is needed for a point to be right: a cut takes
 * along whatever is suspect still.
 *
 * Each pass is durable, and an interruption costs at most the one that was under way.
 * The head that is compared with is the one of the journal: the replica refuses any
 * other, and then everything is settled anew.
 */
import type { HealingReport, RelationshipRecord } from "../model/relationship.js";
import { failpoint } from "../model/failpoint.js";
import { askReplica } from "./ask-replica.js";
import type { RelationshipContext } from "./relationship-context.js";

/** Null: nothing was suspect, or there is no point yet to compare with. */
export async function healSuspects(
  context: RelationshipContext,
  mayGoOn: () => boolean,
  signal: AbortSignal,
): Promise<HealingReport | null> {
  const { tracker, targetId, limits, clock, journal } = context;
  const before = await tracker.progress(targetId);
  const pointId = comparedPointId(journal.record);
  if (before.suspectBytes === 0 || pointId === null) return null;
  const startedMs = clock.monotonicMs();
  const report = { causes: before.suspicionCauses, comparedBytes: 0, differingBytes: 0 };
  const ask = askReplica(context, pointId, signal);
  const options = { limitBytes: limits.comparisonBytes, signal };
  // Suspicion that comes up faster than it is compared: the cut takes it along.
  for (let overtaken = 0; overtaken < limits.overtakenComparisons && mayGoOn(); ) {
    const pass = await tracker.compareSuspects(targetId, ask, options);
    if (pass.comparedBytes === 0) break;
    if (pass.isOvertaken) {
      overtaken += 1;
      continue;
    }
    failpoint("compared");
    report.comparedBytes += pass.comparedBytes;
    report.differingBytes += pass.differingBytes;
    context.onHealing({ ...report, durationMs: clock.monotonicMs() - startedMs });
  }
  return { ...report, durationMs: clock.monotonicMs() - startedMs };
}

/** The head; before there is one, the existing disk that the first copy begins with. */
function comparedPointId({
  headPointId,
  firstCopy,
  stagingSessionId,
}: RelationshipRecord): string | null {
  return headPointId ?? (firstCopy?.by === "seed" ? stagingSessionId : null);
}
