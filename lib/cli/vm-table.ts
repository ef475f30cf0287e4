import type { VmStatus } from "../management/schemas.js";
import { formatBytes, formatDuration } from "./output.js";

export const VM_COLUMNS = ["VM", "ROLE", "STATE", "HEALTH", "LAG", "PENDING", "POINTS"] as const;

export function vmRow(vm: VmStatus): string[] {
  const { relationship, replica } = vm;
  return [
    vm.name,
    vm.role,
    relationship?.state ?? (replica?.head === null ? "waiting" : "replica"),
    relationship?.health ?? "-",
    relationship === null || relationship.lagMs === null ? "-" : formatDuration(relationship.lagMs),
    relationship === null ? "-" : formatBytes(relationship.pendingBytes),
    replica === null ? "-" : String(replica.pointCount),
  ];
}
