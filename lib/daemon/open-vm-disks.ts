import { createHash } from "node:crypto";
import { access, rename } from "node:fs/promises";
import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { HypervisorPlace } from "../model/hypervisor.js";
import { isNbdUri } from "../tracking/disk-backing.js";
import type { Lineage } from "../model/lineage.js";
import type { Durability } from "../model/durability.js";
import type { NativeDevice } from "../tracking/binding.js";
import { TrackedDisk } from "../tracking/tracked-disk.js";
import { openBeside } from "./live/open-beside.js";

export interface VmDiskDefinition {
  readonly diskId: string;
  readonly name: string;
  readonly path: string;
  readonly bitmapPath: string;
  /** Served, and not replicated. */
  readonly isExcluded?: boolean;
}

/** How its VM is attended while it runs. */
export interface AttendedBy extends HypervisorPlace {
  /** By order it runs past Tidemark: its disks are not opened here. */
  readonly isDetached?: boolean;
}

export interface VmDefinition {
  readonly vmId: string;
  readonly name: string;
  readonly targetId: string;
  readonly disks: readonly VmDiskDefinition[];
  /** Absent: whoever runs it gives it the exports by himself. */
  readonly hypervisor?: AttendedBy | undefined;
  /** Guests are kept from its disks: it goes on elsewhere, or is about to. */
  readonly isWithheld?: boolean;
  /** It was failed over to this host: its disks are those of a recovery point, and what is written over it. */
  readonly isPromoted?: boolean;
  /**
   * The replica's newest point when it was failed over to this host: where the disks were
   * behind it is marked. Undefined: not known.
   */
  readonly formerHeadId?: string | undefined;
  /** Whoever had it before may have given the disks of then away for a reversal. */
  readonly wasReversed?: boolean;
  /** Of one that was failed over to this host for good. */
  readonly lineage?: Lineage;
}

export interface OpenVmDisksOptions {
  readonly durability: Durability;
  /** Hears one sentence about each bitmap that had to be replaced. */
  readonly onNotice: (message: string) => void;
  /** Of a VM that was failed over to this host. */
  readonly openPromoted: (vm: VmDefinition, disk: VmDiskDefinition) => Promise<NativeDevice>;
}

/** All disks of a known VM, or none. */
export async function openVmDisks(
  vm: VmDefinition,
  { durability, onNotice, openPromoted }: OpenVmDisksOptions,
): Promise<TrackedDisk[]> {
  if (vm.isPromoted !== true) {
    return openAll(vm.disks, (disk) => reopenDisk({ ...disk, durability }, vm, onNotice));
  }
  return openAll(vm.disks, async (disk) => {
    const { path, bitmapPath, diskId } = disk;
    const device = await openPromoted(vm, disk);
    return TrackedDisk.track(device, { path, bitmapPath, diskId, durability });
  });
}

/** Opens one after another; when one fails, the ones before it are closed again. */
export async function openAll<Item>(
  items: readonly Item[],
  open: (item: Item) => Promise<TrackedDisk>,
): Promise<TrackedDisk[]> {
  const opened: TrackedDisk[] = [];
  try {
    for (const item of items) opened.push(await open(item));
    return opened;
  } catch (thrown) {
    for (const disk of opened) await disk.close();
    throw thrown;
  }
}

/** Intact ones of another disk (FOREIGN) are somebody's mistake, and stay. */
const REPLACED_CODES: ReadonlySet<string> = new Set(["CORRUPT", "TRUNCATED", "VERSION_UNKNOWN"]);

/**
 * A bitmap that is gone or refused is never "nothing changed": a new one is made
 * without the target, and the engine, which finds it missing, takes everything for
 * suspect.
 */
async function reopenDisk(
  disk: VmDiskDefinition & { readonly durability: Durability },
  vm: Pick<VmDefinition, "name" | "hypervisor">,
  onNotice: (message: string) => void,
): Promise<TrackedDisk> {
  const { path, bitmapPath, diskId, durability, name } = disk;
  const options = { path, bitmapPath, diskId, durability, name };
  let why = "is missing";
  if (await exists(disk.bitmapPath)) {
    try {
      return await openBeside(options, vm);
    } catch (thrown) {
      const error = toTidemarkError(thrown);
      if (!REPLACED_CODES.has(error.code)) throw error;
      await rename(disk.bitmapPath, `${disk.bitmapPath}.refused-${Date.now()}`);
      why = `cannot be used (${error.code}) and is set aside`;
    }
  }
  const opened = await openBeside(options, vm);
  onNotice(
    `The bitmap ${disk.bitmapPath} ${why}: all of disk ${disk.path} is compared with its replica.`,
  );
  return opened;
}

export interface NewDiskOptions {
  readonly bitmapDirectory: string;
  readonly durability: Durability;
}

/** A disk that is not known yet; its bitmap may be there from an earlier replication. */
export async function openNewDisk(
  path: string,
  vm: Pick<VmDefinition, "name" | "hypervisor">,
  { bitmapDirectory, durability }: NewDiskOptions,
): Promise<TrackedDisk> {
  if (isNbdUri(path)) {
    const name = createHash("sha256").update(path).digest("hex").slice(0, 32);
    const bitmapPath = join(bitmapDirectory, `${name}.tidemark`);
    return TrackedDisk.open({ path, bitmapPath, durability });
  }
  if (!(await exists(path))) {
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot open disk ${path}: because there is no such file or device.`,
      {
        hint: "Name a raw image file, a block device, or an NBD URI.",
      },
    );
  }
  return openBeside({ path, durability }, vm);
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
