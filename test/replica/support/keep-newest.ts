import type { ReplicaStore } from "#lib/replica/replica-store.js";

/** Gives up all points but the newest ones, and merges; answers whether that is done. */
export async function keepNewest(
  store: ReplicaStore,
  vmId: string,
  pointCount: number,
): Promise<boolean> {
  await store.retention.giveUp(
    vmId,
    (points) => new Set(points.slice(0, -pointCount).map(({ point }) => point.pointId)),
  );
  return store.retention.merge(vmId);
}
