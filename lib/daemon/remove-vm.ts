import { toTidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import type { ReplicatedVmName } from "./handlers/find-vm.js";

/**
 * Ends a VM's replication. With its replica: suspended first, durably, so that an
 * interruption leaves something that the same order completes and nothing that makes a
 * new replica.
 */
export async function removeVm(
  { engine, vms, extended, peers, maintenance, statistics }: HostParts,
  { vmId, isPromoted = false }: ReplicatedVmName,
  deletesReplica: boolean,
): Promise<void> {
  await maintenance.forget(vmId);
  if (deletesReplica) {
    await engine.suspend(vmId);
    const { settings } = await engine.status(vmId);
    await using replica = peers.connect({ ...settings, proxyUrl: settings.proxyUrl ?? null });
    await replica.deleteVm(vmId, engine.generationOf(vmId));
  }
  await engine.remove(vmId).catch(passOverMissing);
  // One that was failed over to this host is served on: its disks are nowhere else.
  if (!isPromoted && vms.find(vmId) !== null) await vms.remove(vmId);
  // What is replicated on from here stays as the replica that it is.
  await extended.forget(vmId);
  await statistics.forget(vmId);
}

/** A removal that was interrupted has removed that much. */
function passOverMissing(thrown: unknown): void {
  if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
}
