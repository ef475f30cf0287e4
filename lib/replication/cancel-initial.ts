import type { RelationshipState } from "../model/relationship.js";
import { forgetStaging } from "./reconcile.js";
import type { RelationshipContext } from "./relationship-context.js";
import type { RelationshipJournal } from "./relationship-journal.js";

/**
 * Gives up the staging session of a first copy, whose loop has ended. The note comes
 * first: what is still marked as staged then belongs to no session, and returns to
 * pending here or when the copy begins again.
 */
export async function cancelInitial(
  journal: RelationshipJournal,
  context: RelationshipContext | null,
  state: RelationshipState,
): Promise<void> {
  const { stagingSessionId } = journal.record;
  await journal.insist({ state, initialStartAtMs: null, stagingSessionId: null });
  if (context === null || stagingSessionId === null) return;
  await forgetStaging(context);
  // An empty session takes the place of the full one: the replica has its space back.
  const { endpoint, vm } = context;
  await endpoint.openStaging(vm.vmId, journal.record.generation).catch(() => {});
}
