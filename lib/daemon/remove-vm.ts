import { toTidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import type { Replicated } from "./handlers/find-vm.js";

/**
 * Ends a VM's replication to one target, and with the last one the VM's being here. With its
 * replica: suspended first, durably, so that an interruption leaves something that the same
 * order completes and nothing that makes a new replica.
 */
export async function removeVm(
  parts: HostParts,
  { vmId, relationshipId, isPromoted = false }: Replicated,
  deletesReplica: boolean,
): Promise<void> {
  const { engine, vms, extended, maintenance, statistics } = parts;
  await maintenance.forget(relationshipId);
  if (deletesReplica) await deleteReplica(parts, vmId, relationshipId);
  await engine.remove(relationshipId).catch(passOverMissing);
  await statistics.forget(relationshipId);
  if (engine.idsOf(vmId).length > 0) return;
  // One that was failed over to this host is served on, or again: its disks are nowhere else.
  if (vms.find(vmId) !== null) await (isPromoted ? vms.setServed(vmId, true) : forget(parts, vmId));
  // What is replicated on from here stays as the replica that it is.
  await extended.forget(vmId);
  await statistics.forget(vmId);
}

/** A guest that runs goes past Tidemark before its exports end. */
async function forget({ live, vms }: HostParts, vmId: string): Promise<void> {
  await live.leave(vmId);
  await vms.remove(vmId);
}

async function deleteReplica(
  { engine, peers }: HostParts,
  vmId: string,
  relationshipId: string,
): Promise<void> {
  await engine.suspend(relationshipId);
  const { settings } = await engine.status(relationshipId);
  await using replica = peers.connect({ ...settings, proxyUrl: settings.proxyUrl ?? null });
  await replica.deleteVm(vmId, engine.generationOf(relationshipId));
}

/** A removal that was interrupted has removed that much. */
function passOverMissing(thrown: unknown): void {
  if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
}
