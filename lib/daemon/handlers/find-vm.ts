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

/** A replication from this host, to which orders are given. */
export interface Replicated {
  readonly vmId: string;
  /** It came to this host by a failover. Default false. */
  readonly isPromoted?: boolean | undefined;
  /** The VM's; with "@" and the target's, of one of its further targets. */
  readonly name: string;
  /** The engine's. */
  readonly relationshipId: string;
}

/**
 * A VM that this host is the primary of, or a replica that goes on from here, by id or name: to
 * its first target; or to one of its further ones, "VM@TARGET". NOT_FOUND.
 */
export async function findReplicated(parts: HostParts, reference = ""): Promise<Replicated> {
  const own = primaryReplication(parts, reference);
  if (own !== null) return own;
  const isMeant = ({ vmId, name }: Replicated) => vmId === reference || name === reference;
  const found = (await extendedVms(parts)).find(isMeant);
  if (found === undefined) throw noSuchVm(reference);
  return found;
}

/** Of a VM that this host is the primary of. NOT_FOUND. */
export function findReplicatedPrimary(parts: HostParts, reference = ""): Replicated {
  const found = primaryReplication(parts, reference);
  if (found === null) throw noSuchVm(reference);
  return found;
}

/**
 * Null: this host is the primary of no such VM, which may be a replica. NOT_FOUND: it is, and
 * the VM has no such target.
 */
export function primaryReplication(parts: HostParts, reference = ""): Replicated | null {
  const own = parts.vms.find(reference);
  return own === null ? findTarget(parts, reference) : asReplicated(own);
}

/** Of the VM: to its first target where it has one, then to the others. */
export function replicationsOf(
  { engine }: Pick<HostParts, "engine">,
  definition: VmDefinition,
): readonly Replicated[] {
  const { vmId, name, isPromoted } = definition;
  const further = engine.targetsOf(vmId).map(({ id, name: targetName }) => ({
    vmId,
    name: `${name}@${targetName}`,
    relationshipId: id,
    isPromoted,
  }));
  const hasFirst = engine.has(vmId) || further.length === 0;
  return [...(hasFirst ? [asReplicated(definition)] : []), ...further];
}

/** Of all VMs that this host is the primary of. */
export function ownReplications({
  vms,
  engine,
}: Pick<HostParts, "vms" | "engine">): readonly Replicated[] {
  return vms.definitions().flatMap((vm) => replicationsOf({ engine }, vm));
}

function findTarget(parts: HostParts, reference: string): Replicated | null {
  const [vmName = "", targetName] = reference.split("@");
  const definition = parts.vms.find(vmName);
  if (targetName === undefined || definition === null) return null;
  const wanted = `${definition.name}@${targetName}`;
  const found = replicationsOf(parts, definition).find(({ name }) => name === wanted);
  if (found !== undefined) return found;
  throw new TidemarkError(
    "NOT_FOUND",
    `Cannot find target ${targetName} of VM ${definition.name}.`,
    { hint: `\`tidemark vm status ${definition.name}\` shows its targets.` },
  );
}

function asReplicated({ vmId, name, isPromoted }: VmDefinition): Replicated {
  return { vmId, name, isPromoted, relationshipId: vmId };
}

/** The replicas kept here that are replicated on from here. */
export async function extendedVms(parts: HostParts): Promise<readonly Replicated[]> {
  const { vms, engine } = parts;
  return (await replicaSummaries(parts))
    .filter(({ vmId }) => engine.has(vmId) && vms.find(vmId) === null)
    .map(({ vmId, vm }) => ({ vmId, name: vm?.name ?? vmId, relationshipId: vmId }));
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
