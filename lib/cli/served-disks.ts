import type { VmStatus } from "../management/schemas.js";
import { formatBytes, printTable } from "./output.js";

/** Where a VM's disks are reached. */
export function printServedDisks({ disks }: Pick<VmStatus, "disks">): void {
  printTable(
    ["DISK", "SIZE", "REACHED AT"],
    disks.map((disk) => [
      disk.isExcluded ? `${disk.name} (not replicated)` : disk.name,
      formatBytes(disk.sizeBytes),
      disk.uri ?? "-",
    ]),
  );
}
