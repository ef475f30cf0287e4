/** What the API tells of a VM: as its primary, and as its replica. */
import type { PointExportBody, VmStatus } from "../../management/schemas.js";
import type { DiskGeometry } from "../../model/disk.js";
import type { RelationshipStatus } from "../../model/relationship.js";
import type { PointExport } from "../../model/replica-exports.js";
import type { ReplicaVmSummary } from "../../replica/vm-summary.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import type { ServedVm } from "../served-vm.js";
import { findReplica, type Replicated, replicaSummaries } from "./find-vm.js";

export async function describeAll(parts: HostParts): Promise<VmStatus[]> {
  const primaries = parts.vms.definitions().map((vm) => describePrimary(parts, vm));
  const replicas = (await replicaSummaries(parts)).map((vm) => describeReplica(parts, vm));
  return Promise.all([...primaries, ...replicas]);
}

/** As it is here: primary, to the target that is meant, or replica. */
export async function describeReplicated(
  parts: HostParts,
  { vmId, name, relationshipId }: Replicated,
): Promise<VmStatus> {
  const definition = parts.vms.find(vmId);
  if (definition !== null && relationshipId === vmId) return describePrimary(parts, definition);
  if (definition !== null) {
    const relationship = relationshipBody(await parts.engine.status(relationshipId));
    return { ...(await describePrimary(parts, definition)), name, relationship, targets: [] };
  }
  return describeReplica(parts, await findReplica(parts, vmId));
}

export async function describePrimary(
  parts: HostParts,
  definition: VmDefinition,
): Promise<VmStatus> {
  const { vms, engine } = parts;
  const { vmId, name, isWithheld = false } = definition;
  const served = await vms.served(vmId).catch(() => null);
  const relationship = await engine.status(vmId).catch(() => null);
  return {
    vmId,
    name,
    role: "primary",
    disks: definition.disks.map((disk, index) => ({
      diskId: disk.diskId,
      name: disk.name,
      path: disk.path,
      sizeBytes: served?.disks[index]?.sizeBytes ?? 0,
      uri: isWithheld ? null : uriOf(served, disk.name),
      isExcluded: disk.isExcluded ?? false,
    })),
    relationship: relationship === null ? null : relationshipBody(relationship),
    targets: await describeTargets(parts, vmId),
    promotion: definition.isPromoted === true ? await promotionBody(parts, vmId) : null,
    hypervisor: hypervisorBody(parts, definition),
    replica: null,
  };
}

function hypervisorBody(
  { live }: HostParts,
  { vmId, hypervisor }: VmDefinition,
): VmStatus["hypervisor"] {
  if (hypervisor === undefined) return null;
  const { kind, monitorPath, isDetached = false } = hypervisor;
  const attended = live.find(vmId);
  const state = isDetached ? "detached" : (attended?.state ?? "starting");
  return { kind, monitorPath, state, reason: attended?.failure?.message ?? null };
}

async function describeTargets({ engine }: HostParts, vmId: string): Promise<VmStatus["targets"]> {
  return Promise.all(
    engine.targetsOf(vmId).map(async ({ id, name }) => {
      return { name, relationship: relationshipBody(await engine.status(id)) };
    }),
  );
}

export async function describeReplica(
  parts: HostParts,
  { vmId, vm, head, pointCount }: ReplicaVmSummary,
): Promise<VmStatus> {
  const status = await parts.replicaStore.status(vmId).catch(() => null);
  const verification = (await parts.verifications.status(vmId).catch(() => null)) ?? null;
  const exports = parts.pointExports.list().filter((entry) => entry.vmId === vmId);
  const isExtended = parts.engine.has(vmId) && parts.vms.find(vmId) === null;
  return {
    vmId,
    name: vm?.name ?? vmId,
    role: "replica",
    disks: [
      ...(vm?.disks ?? []).map((disk) => replicaDisk(disk, false)),
      ...(vm?.excludedDisks ?? []).map((disk) => replicaDisk(disk, true)),
    ],
    targets: [],
    relationship: isExtended ? relationshipBody(await parts.engine.status(vmId)) : null,
    promotion: null,
    hypervisor: null,
    replica: {
      head,
      pointCount,
      storedBytes: status?.storedBytes ?? 0,
      warnings: parts.retention.warningsOf(vmId),
      exports: exports.map(exportBody),
      verification,
    },
  };
}

export function exportBody(entry: PointExport): PointExportBody {
  return { ...entry, disks: [...entry.disks] };
}

function replicaDisk({ diskId, name, sizeBytes }: DiskGeometry, isExcluded: boolean) {
  return { diskId, name, sizeBytes, path: null, uri: null, isExcluded };
}

async function promotionBody(
  { failovers }: HostParts,
  vmId: string,
): Promise<VmStatus["promotion"]> {
  const promotion = await failovers.promotionOf(vmId);
  if (promotion === null) return null;
  const { entry, fold } = promotion;
  const { cause, generation, forkPointId } = entry;
  return { cause, generationNumber: generation.number, pointId: forkPointId, fold };
}

function uriOf(served: ServedVm | null, exportName: string): string | null {
  return served === null ? null : served.server.uriOf(exportName);
}

function relationshipBody(status: RelationshipStatus): NonNullable<VmStatus["relationship"]> {
  return { ...status, healthReasons: [...status.healthReasons] };
}
