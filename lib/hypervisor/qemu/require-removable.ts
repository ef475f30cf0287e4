import { TidemarkError } from "../../model/errors.js";
import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockDevice } from "./block-graph.js";
import { isSameFilter } from "./filter-place.js";
import { vmDiskOf } from "./vm-disk-of.js";

/** Throws unless the disk goes by that filter, and by nothing else. */
export function requireRemovable(device: BlockDevice, filter: DiskFilter): void {
  const { name, format, filter: present } = vmDiskOf(device);
  const isBare = format === "nbd" || format === "raw";
  if (isBare && isSameFilter(present, filter)) return;
  const way = present === null ? device.root.place : `${format} over ${present.socketPath}`;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot remove the filter from disk ${name}: because it goes by ${way}, not by ${filter.socketPath} alone.`,
    { hint: "See how the VM reaches the disk, and end snapshots and block jobs first." },
  );
}
