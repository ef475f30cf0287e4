import { type BlockHashRequest, blankPastEnd, hashesOfNothing } from "../model/block-hashes.js";
import type { ReplicatedVm } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import { parseUuid } from "../model/uuid.js";
import { openPointDisk } from "./open-point-disk.js";
import type { OpenedDisks } from "./opened-point.js";
import type { LayerNative } from "./replica-tools.js";

/** Reads through base and layers, on the addon's threads. */
export async function hashPoint(
  native: LayerNative,
  vm: ReplicatedVm,
  { disks }: OpenedDisks,
  request: BlockHashRequest,
): Promise<Uint8Array> {
  const wantedDiskId = diskIdOf(vm, request);
  const disk = disks.find(({ geometry, isPlaceholder }) => {
    return geometry.diskId === wantedDiskId && !isPlaceholder;
  });
  if (disk === undefined) return hashesOfNothing(request);
  const { extents, blockBytes } = request;
  const device = await openPointDisk(native, disk);
  try {
    const hashes = await device.hashBlocks(Float64Array.from(extents), blockBytes);
    return blankPastEnd(hashes, { extents, blockBytes }, disk.geometry.sizeBytes);
  } finally {
    await device.close();
  }
}

function diskIdOf({ disks }: ReplicatedVm, { diskId, diskIndex }: BlockHashRequest): string {
  const wanted = diskId ?? disks[diskIndex]?.diskId;
  if (wanted !== undefined) return parseUuid(wanted, "disk id");
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot hash blocks of disk ${diskIndex}: because the VM has ${disks.length}.`,
  );
}
