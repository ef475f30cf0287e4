import type { VmStatus } from "../management/schemas.js";
import { formatBytes, formatDuration } from "./output.js";

export const VM_COLUMNS = ["VM", "ROLE", "STATE", "HEALTH", "LAG", "PENDING", "POINTS"] as const;

function vmRow(vm: VmStatus): string[] {
  const { relationship, replica } = vm;
  return [
    vm.name,
    isExtended(vm) ? "replica, extended" : vm.role,
    relationship?.state ?? stateOf(vm),
    relationship?.health ?? (vm.role === "primary" ? "warning" : replicaHealth(replica)),
    relationship === null || relationship.lagMs === null ? "-" : formatDuration(relationship.lagMs),
    relationship === null ? "-" : formatBytes(relationship.pendingBytes),
    replica === null ? "-" : String(replica.pointCount),
  ];
}

/** The VM's, and one for each of its further targets. */
export function vmRows(vm: VmStatus): string[][] {
  const targets = vm.targets.map(({ name, relationship }) =>
    vmRow({ ...vm, name: `${vm.name}@${name}`, relationship }),
  );
  const isOnlyFurther = vm.relationship === null && targets.length > 0;
  return isOnlyFurther ? targets : [vmRow(vm), ...targets];
}

/** It is kept here, and replicated on from here. */
export function isExtended({ role, relationship }: VmStatus): boolean {
  return role === "replica" && relationship !== null;
}

function stateOf({ replica, role }: VmStatus): string {
  if (role === "primary") return "not replicated";
  return replica?.head === null ? "waiting" : "replica";
}

/** What rotted, as far as it was found. */
function replicaHealth(replica: VmStatus["replica"]): string {
  const verification = replica?.verification ?? null;
  if (verification === null || verification.last === null) return "-";
  if (verification.isHeadDamaged) return "critical";
  return verification.damagedPoints.length > 0 ? "warning" : "normal";
}
