import type { CutMember, TargetChanges } from "./vm-tracker.js";

/** CutTogether in memory: no write comes between, because each cut is made before the first await. */
export async function cutTogetherInMemory(
  members: readonly CutMember[],
): Promise<readonly TargetChanges[]> {
  const cuts = await Promise.allSettled(
    members.map(({ tracker, targetId, options }) => tracker.checkpoint(targetId, options)),
  );
  const taken = cuts.flatMap((cut) => (cut.status === "fulfilled" ? [cut.value] : []));
  const failed = cuts.find((cut) => cut.status === "rejected");
  if (failed === undefined) return taken;
  for (const changes of taken) await changes.giveBack();
  throw failed.reason;
}
