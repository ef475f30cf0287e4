import type { PointExportBody } from "../management/schemas.js";
import { printTable } from "./output.js";

export function printExportedDisks({ disks }: Pick<PointExportBody, "disks">): void {
  printTable(
    ["DISK", "NBD URI"],
    disks.map((disk) => [disk.name, disk.uri]),
  );
}

/** What whoever starts a VM on it has to know of its disks. */
export function exportNotes({ disks, absentDisks }: PointExportBody): readonly string[] {
  return [
    ...disks
      .filter(({ isPlaceholder }) => isPlaceholder)
      .map(({ name }) => `Disk ${name} is empty: it is not replicated.`),
    ...absentDisks.map(({ name }) => `Disk ${name} is not in this point: it was added later.`),
  ];
}
