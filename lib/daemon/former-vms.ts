import { stat } from "node:fs/promises";
import { TidemarkError } from "../model/errors.js";
import { type Lineage, type LineageEntry, standingIn } from "../model/lineage.js";
import type { FormerPrimary, ReleasedDisks } from "../replica/former-primary.js";
import type { RelationshipStanding } from "../replication/relationship-standing.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";
import { isNbdUri } from "../tracking/disk-backing.js";
import type { VmDefinition } from "./open-vm-disks.js";
import type { PrimaryVms } from "./primary-vms.js";

/** The VMs of this host that went on elsewhere: their disks become a replica's. */
export class FormerVms implements FormerPrimary {
  readonly #vms: PrimaryVms;
  readonly #engine: ReplicationEngine;

  constructor(vms: PrimaryVms, engine: ReplicationEngine) {
    this.#vms = vms;
    this.#engine = engine;
  }

  async release(vmId: string, lineage: Lineage, formerHeadId?: string): Promise<ReleasedDisks> {
    const definition = this.#vms.find(vmId);
    if (definition === null) throw neverHere(vmId);
    const { id, ...standing } = this.#standingIn(vmId, lineage);
    const successor = requireSuperseded(definition, standing, lineage);
    const paths = await requirePlainFiles(definition);
    const { forkPointId } = successor;
    const differences = await this.#engine.letGo(id, { forkPointId, formerHeadId });
    await this.#vms.letGo(vmId);
    return { generation: standing.generation, paths, ...differences };
  }

  /** To the target whose host is to have the VM. */
  #standingIn(vmId: string, lineage: Lineage): RelationshipStanding & { readonly id: string } {
    const engine = this.#engine;
    const all = engine.idsOf(vmId).map((id) => ({ id, ...engine.standingOf(id) }));
    const asked = all.find((standing) => standingIn(lineage, standing) !== "foreign");
    return asked ?? { id: vmId, ...engine.standingOf(vmId) };
  }

  requireNotOwn(vmId: string): void {
    const definition = this.#vms.find(vmId);
    if (definition !== null) throw isCircle(definition.name);
  }

  async forget(vmId: string): Promise<void> {
    // Long ago: what is replicated from here by now is the replica.
    if (this.#vms.find(vmId) === null) return;
    await this.#engine.forget(vmId);
    await this.#vms.remove(vmId);
  }
}

/** Answers the generation that took over. What this host has not found out itself it does not believe a peer. */
function requireSuperseded(
  { name }: VmDefinition,
  { state, ...own }: RelationshipStanding,
  lineage: Lineage,
): LineageEntry {
  if (state !== "failed-over") {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot take ${name} back: because its replication's state is ${state} here, not failed-over.`,
      {
        retryable: true,
        hint: "It asks its replica within a minute, or when `tidemark vm resume` says so.",
      },
    );
  }
  const successor = lineage.find(({ parentId }) => parentId === own.generation.id);
  if (standingIn(lineage, own) === "superseded" && successor !== undefined) return successor;
  throw new TidemarkError(
    "FENCED",
    `Cannot take ${name} back: because this host's generation ${own.generation.number} is not one that the other side goes on from.`,
    { hint: "Find out which side is to be kept, and remove the VM on the other." },
  );
}

async function requirePlainFiles({
  name,
  disks,
  isPromoted,
}: VmDefinition): Promise<Map<string, string>> {
  if (isPromoted === true) {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot take ${name} back: because its last failover to this host was not completed.`,
      { hint: `Complete it first: tidemark vm commit-failover ${name}.` },
    );
  }
  const paths = new Map<string, string>();
  for (const { diskId, path, isExcluded = false } of disks) {
    if (isExcluded) continue;
    const isFile = !isNbdUri(path) && (await stat(path).catch(() => null))?.isFile() === true;
    if (!isFile) throw noPlainFile(name, path);
    paths.set(diskId, path);
  }
  return paths;
}

function noPlainFile(name: string, path: string): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    `Cannot take ${name} back: because ${path} is no raw image file, and cannot become the base of a replica where it is.`,
    { hint: "Remove the VM here, and enable its replication to this host anew." },
  );
}

function isCircle(name: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot keep a replica of ${name}: because this host has the VM itself.`,
    { hint: "A VM is not replicated in a circle: extend its replication to a third host." },
  );
}

function neverHere(vmId: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot take VM ${vmId} back: because this host was not its primary.`,
    { hint: "Enable the VM's replication to this host: everything is copied then." },
  );
}
