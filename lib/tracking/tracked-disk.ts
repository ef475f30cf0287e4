import { randomUUID } from "node:crypto";
import { access } from "node:fs/promises";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { binding, type NativeDevice, type NativeTrackedDevice } from "./binding.js";
import { type Checkpoint, type CheckpointOptions, takeCheckpoint } from "./checkpoint.js";
import { NbdServer, type NbdServerOptions } from "./nbd-server.js";
import { targetIdOf } from "./target-id.js";

export interface TrackedDiskOptions {
  /** A raw image file or a block device. */
  readonly path: string;
  /** The dirty bitmap's file. Default: the path with ".tidemark" appended. */
  readonly bitmapPath?: string;
  /** UUID. Default: the one in the bitmap, or a new one. With it, another disk's bitmap is refused (FOREIGN). */
  readonly diskId?: string;
  /** Bytes a bit stands for, for a new bitmap; a power of two from 4096. Default: by the disk's size. */
  readonly granularityBytes?: number;
  /** Past the page cache (O_DIRECT). Default false. */
  readonly direct?: boolean;
}

/** What a new target starts with as changed. */
export type TargetStart =
  /** Every block: right whatever the target holds already. */
  | "all"
  /** What is not known to be zero: for a target that holds nothing yet. */
  | "allocated"
  /** Nothing: the target holds exactly what the disk holds now. */
  | "nothing";

export interface TargetStatus {
  readonly targetId: string;
  readonly pendingBytes: number;
  readonly inFlightBytes: number;
  readonly stagedBytes: number;
}

/** What a reader over NBD would not get from a target of this name. */
const LIVE_MAP = "live";
const ANY_DISK = "00000000-0000-0000-0000-000000000000";

/**
 * A disk whose every change is marked. Open it, serve it (or write through it),
 * and take checkpoints of it; one at a time in the process may hold its bitmap.
 *
 * Close it when nothing writes any more: only then is the bitmap marked clean.
 * Without close() the next open finds an unclean bitmap, which costs nothing
 * after a mere crash of the process.
 */
export class TrackedDisk implements AsyncDisposable {
  readonly diskId: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  /** False when the bitmap was new, or not closed the last time. */
  readonly openedClean: boolean;
  readonly #native: NativeTrackedDevice;
  readonly #servers = new Set<NbdServer>();
  readonly #checkpoints = new Set<Checkpoint>();
  #isClosed = false;

  private constructor(native: NativeTrackedDevice, diskId: string, path: string) {
    this.#native = native;
    this.diskId = diskId;
    this.path = path;
    this.sizeBytes = native.sizeBytes;
    this.granularityBytes = native.granularityBytes;
    this.openedClean = native.openedClean;
  }

  /** Opens the disk and its bitmap; makes the bitmap when there is none. */
  static async open(options: TrackedDiskOptions): Promise<TrackedDisk> {
    const backing = await opened(options.path, () =>
      binding.openFileDevice(options.path, false, options.direct ?? false),
    );
    return TrackedDisk.track(backing, options);
  }

  /** As open(), over a device (tidemark/testing has some). Takes the device over. */
  static async track(backing: NativeDevice, options: TrackedDiskOptions): Promise<TrackedDisk> {
    const bitmapPath = options.bitmapPath ?? `${options.path}.tidemark`;
    const isNew = await isMissing(bitmapPath);
    const diskId = options.diskId ?? (isNew ? randomUUID() : ANY_DISK);
    const granularityBytes = options.granularityBytes ?? 0;
    const native = await opened(bitmapPath, () =>
      binding.trackDevice(backing, bitmapPath, diskId, granularityBytes, isNew),
    );
    await giveBackLeftovers(native);
    return new TrackedDisk(native, native.diskId, options.path);
  }

  /** The device of the data plane, for modules of this package. */
  get native(): NativeTrackedDevice {
    if (this.#isClosed) throw new TidemarkError("CLOSED", "Cannot use the disk: it is closed.");
    return this.#native;
  }

  /**
   * Idempotent for a target that is there. From its return on, every write counts
   * for the target; it is there with all that counts from the start, or not at all.
   */
  async addTarget(name: string, start: TargetStart = "all"): Promise<void> {
    const id = targetIdOf(name);
    if (this.native.targets().some((target) => target.id === id)) return;
    if (name === LIVE_MAP) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot add target ${name}: because qemu:dirty-bitmap:${name} is what no target has yet.`,
        { hint: "Choose another name." },
      );
    }
    await rethrown(() => this.native.addTarget(id, start));
  }

  async removeTarget(name: string): Promise<void> {
    await rethrown(() => this.native.removeTarget(this.slotOf(name)));
  }

  targets(): TargetStatus[] {
    const bytes = (blocks: number) => Math.min(blocks * this.granularityBytes, this.sizeBytes);
    return this.native.targets().map((target) => ({
      targetId: target.id,
      pendingBytes: bytes(target.pendingBlocks),
      inFlightBytes: bytes(target.inFlightBlocks),
      stagedBytes: bytes(target.stagedBlocks),
    }));
  }

  /** NOT_FOUND when the disk has no such target. */
  slotOf(name: string): number {
    const id = targetIdOf(name);
    const target = this.native.targets().find((candidate) => candidate.id === id);
    if (target !== undefined) return target.slot;
    throw new TidemarkError("NOT_FOUND", `Cannot find target ${name} on disk ${this.path}.`, {
      hint: "Add it with addTarget().",
    });
  }

  /** A checkpoint of this disk alone; for several at one instant see ConsistencyGroup. */
  async checkpoint(target: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
    return takeCheckpoint([this], target, options);
  }

  /** For checkpoints alone: an open one keeps the disk from being closed. */
  onCheckpoint(checkpoint: Checkpoint, isOpen: boolean): void {
    if (isOpen) this.#checkpoints.add(checkpoint);
    else this.#checkpoints.delete(checkpoint);
  }

  /** Serves the disk over NBD, as the default export too. Closed with the disk. */
  async serve(options: NbdServerOptions & { readonly exportName?: string }): Promise<NbdServer> {
    const server = await NbdServer.start(options);
    server.addExport(options.exportName ?? "", this.native, { description: this.path });
    this.#servers.add(server);
    return server;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    await rethrown(() => this.native.read(offsetBytes, into));
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    await rethrown(() => this.native.write(offsetBytes, from));
  }

  async flush(): Promise<void> {
    await rethrown(() => this.native.flush());
  }

  /** Ends its servers, syncs, and marks the bitmap clean. IN_USE while a checkpoint is open. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#checkpoints.size > 0) {
      throw new TidemarkError(
        "IN_USE",
        `Cannot close disk ${this.path}: because a checkpoint of it is open.`,
        { hint: "End the checkpoint with commit() or rollback() first." },
      );
    }
    this.#isClosed = true;
    for (const server of this.#servers) await server.close();
    await rethrown(() => this.#native.close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** No checkpoint outlives its process: what one left in flight counts as changed again. */
async function giveBackLeftovers(native: NativeTrackedDevice): Promise<void> {
  for (const target of native.targets()) {
    if (target.inFlightBlocks > 0) await rethrown(() => native.giveBack(target.slot));
  }
}

async function isMissing(path: string): Promise<boolean> {
  try {
    await access(path);
    return false;
  } catch {
    return true;
  }
}

/** Names the file in what the data plane could not open. */
async function opened<T>(path: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (thrown) {
    const error = toTidemarkError(thrown);
    if (error.message.includes(path)) throw error;
    const options = { cause: thrown, ...(error.hint === undefined ? {} : { hint: error.hint }) };
    throw new TidemarkError(error.code, `Cannot open ${path}: ${error.message}`, options);
  }
}

/** The addon refuses arguments before it makes a promise. */
async function rethrown<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
