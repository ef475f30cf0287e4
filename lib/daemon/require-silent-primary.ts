import { TidemarkError } from "../model/errors.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { Failovers } from "./failovers.js";
import type { LastContact, PrimaryContacts } from "./primary-contacts.js";

interface Parts {
  readonly contacts: PrimaryContacts;
  readonly failovers: Failovers;
  readonly replicaStore: ReplicaStore;
}

/**
 * CONFLICT while the primary of a VM seems to live: it would lose what it wrote since the
 * recovery point, and a planned failover would not.
 */
export async function requireSilentPrimary(
  { contacts, failovers, replicaStore }: Parts,
  vmId: string,
  pointId: string,
): Promise<void> {
  const lately = contacts.lately(vmId);
  // Of one that has lost the VM already its calls say nothing.
  if (lately === null || (await failovers.promotionOf(vmId)) !== null) return;
  const summary = (await replicaStore.listVms()).find((one) => one.vmId === vmId);
  const points = await replicaStore.points(vmId);
  const point = points.find((one) => one.pointId === pointId);
  throw stillAlive(summary?.vm?.name ?? vmId, lately, point?.validUntilMs ?? null);
}

function stillAlive(
  name: string,
  { agoMs, remainingMs }: LastContact,
  validUntilMs: number | null,
): TidemarkError {
  const nowMs = Date.now();
  const lostMs = validUntilMs === null ? null : Math.max(0, nowMs - validUntilMs);
  const lost =
    lostMs === null ? "" : `; what it wrote in the last ${secondsOf(lostMs)} would be lost`;
  const throughAt = timeOf(nowMs + remainingMs);
  return new TidemarkError(
    "CONFLICT",
    `Cannot fail ${name} over: because its primary seems to live, it was in contact at ${timeOf(nowMs - agoMs)} (${secondsOf(agoMs)} ago)${lost}.`,
    {
      hint: `On the primary, \`tidemark vm planned-failover ${name}\` loses nothing. If it is gone, use --force, or wait until ${throughAt}.`,
    },
  );
}

function timeOf(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19)}Z`;
}

function secondsOf(durationMs: number): string {
  return `${Math.ceil(durationMs / 1000)} s`;
}
