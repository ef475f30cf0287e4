import { TidemarkError } from "../model/errors.js";
import type { Durability } from "../model/durability.js";
import type { ImageLock } from "./binding.js";
import { backingOf, type DiskBacking, placeOf } from "./disk-backing.js";
import type { SharedStorageOptions } from "./owned-backing.js";

export interface TrackedDiskOptions {
  /** In place of `backing`: a raw image file, a block device, or an NBD URI. */
  readonly path?: string;
  readonly backing?: DiskBacking;
  /** The dirty bitmap's file. Default, for files and block devices only: the path with ".tidemark" appended. */
  readonly bitmapPath?: string;
  /** UUID. Default: the one in the bitmap, or a new one. With it, another disk's bitmap is refused (FOREIGN). */
  readonly diskId?: string;
  /** Bytes a bit stands for, for a new bitmap; a power of two from 4096. Default: by the disk's size. */
  readonly granularityBytes?: number;
  /**
   * What the marks survive without the whole disk being compared afterwards. Default
   * "power-safe": the first write to a region that was quiet waits for one sync of the
   * bitmap's file. "process-safe" never waits.
   */
  readonly durability?: Durability;
  /** With `path`, of a file or a block device: past the page cache (O_DIRECT). Default false. */
  readonly direct?: boolean;
  /**
   * With `path`: the image's lock, in QEMU's own convention. Default "exclusive": IN_USE while
   * QEMU has it open, and QEMU refuses it from then on. "none" for a hand-over in
   * which QEMU has it open and is about to come through Tidemark (docs/hypervisors.md).
   */
  readonly lock?: ImageLock;
  /** For an image that other hosts see too: this one writes only while it owns the disk. */
  readonly sharedStorage?: SharedStorageOptions;
}

export interface ResizeOptions {
  /** How long open checkpoints of the disk may take to end. Default 60000. */
  readonly checkpointWaitMs?: number;
  /**
   * Ends the connections of the servers that serve() made, after what is in
   * flight: clients that come back by themselves see the new size. Default false:
   * a client that does not come back would be cut off.
   */
  readonly reconnectClients?: boolean;
  /** For a smaller size: what lies past the new end is gone. Default false: INVALID_ARGUMENT. */
  readonly dropsData?: boolean;
}

export function backingOfOptions(options: TrackedDiskOptions): DiskBacking {
  if ((options.path === undefined) === (options.backing === undefined)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot open the disk: because it needs either a path or a backing.",
    );
  }
  if (options.backing !== undefined) return options.backing;
  const backing = backingOf(options.path ?? "");
  if (backing.kind !== "file") return backing;
  return { ...backing, direct: options.direct ?? false, lock: options.lock ?? "exclusive" };
}

export function defaultBitmapPath(backing: DiskBacking): string {
  if (backing.kind === "file") return `${backing.path}.tidemark`;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot track ${placeOf(backing)}: because its bitmap needs a file of its own.`,
    { hint: "Name one (bitmapPath, --bitmap)." },
  );
}
