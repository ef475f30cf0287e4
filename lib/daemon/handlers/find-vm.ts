import { TidemarkError } from "../../model/errors.js";
import type { ReplicaVmSummary } from "../../replica/vm-summary.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";

type ReplicaParts = Pick<HostParts, "replicaStore" | "vms">;

/** By id or name, among the VMs that this host is the primary of. NOT_FOUND. */
export function findPrimary(parts: HostParts, idOrName = ""): VmDefinition {
  const definition = parts.vms.find(idOrName);
  if (definition === null) throw noSuchVm(idOrName);
  return definition;
}

/** A VM whose replication from this host has orders given to it. */
export type ReplicatedVmName = Pick<VmDefinition, "vmId" | "name" | "isPromoted">;

/** By id or name, among the VMs that this host is the primary of, and the replicas that go on from here. NOT_FOUND. */
export async function findReplicated(parts: HostParts, idOrName = ""): Promise<ReplicatedVmName> {
  const definition = parts.vms.find(idOrName);
  if (definition !== null) return definition;
  const extended = await extendedVms(parts);
  const found = extended.find(({ vmId, name }) => vmId === idOrName || name === idOrName);
  if (found === undefined) throw noSuchVm(idOrName);
  return found;
}

/** The replicas kept here that are replicated on from here. */
export async function extendedVms(parts: HostParts): Promise<readonly ReplicatedVmName[]> {
  const { vms, engine } = parts;
  return (await replicaSummaries(parts))
    .filter(({ vmId }) => engine.has(vmId) && vms.find(vmId) === null)
    .map(({ vmId, vm }) => ({ vmId, name: vm?.name ?? vmId }));
}

/** By id or name, among the replicas kept here. NOT_FOUND; CONFLICT when several have that name. */
export async function findReplica(parts: ReplicaParts, idOrName = ""): Promise<ReplicaVmSummary> {
  const matches = (await replicaSummaries(parts)).filter(
    (summary) => summary.vmId === idOrName || summary.vm?.name === idOrName,
  );
  const [match] = matches;
  if (match === undefined) throw noSuchReplica(parts, idOrName);
  if (matches.length === 1) return match;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot tell which VM ${idOrName} is: because ${matches.length} replicas have that name.`,
    { hint: "Use its id instead; `tidemark vm status --json` shows the ids." },
  );
}

export async function replicaSummaries(parts: ReplicaParts): Promise<readonly ReplicaVmSummary[]> {
  return parts.replicaStore.listVms();
}

function noSuchReplica({ vms }: ReplicaParts, name: string): TidemarkError {
  if (vms.find(name) === null) return noSuchVm(name);
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot find a replica of VM ${name} here: because this host is its primary.`,
    { hint: "Ask the host that has its replica." },
  );
}

function noSuchVm(name: string): TidemarkError {
  return new TidemarkError("NOT_FOUND", `Cannot find VM ${name} on this host.`, {
    hint: "`tidemark vm status` lists the VMs.",
  });
}
