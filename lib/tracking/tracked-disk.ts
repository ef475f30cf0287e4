import { randomUUID } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import { type SuspicionCause, suspicionCausesOf } from "../model/suspicion.js";
import { type AttachedDevice, attachDisk, type AttachOptions } from "./attach-disk.js";
import { binding, type ImageLock, type NativeDevice, type NativeTrackedDevice } from "./binding.js";
import { backingOf, type DiskBacking, placeOf, type UpstreamStatus } from "./disk-backing.js";
import { type Checkpoint, type CheckpointOptions, takeCheckpoint } from "./checkpoint.js";
import { closeServer } from "./close-server.js";
import { type DiskState, exportDiskState } from "./disk-state.js";
import { type Durability, durabilityOf, type DurabilityStatus } from "./durability.js";
import { flushUpstream } from "./flush-upstream.js";
import { isMissing, opened, rethrown, retriedWhileInUse } from "./native-call.js";
import { NbdServer, type NbdServerOptions } from "./nbd-server.js";
import { openOwned, type OwnershipStatus, type SharedStorageOptions } from "./owned-backing.js";
import { targetIdOf } from "./target-id.js";

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
   * QEMU has it open, and QEMU refuses it from then on. "shared" for a hand-over in
   * which QEMU has it open and is about to come through Tidemark.
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

/** What a new target starts with as changed. */
export type TargetStart =
  /** Every block: right whatever the target holds already. */
  | "all"
  /** What is not known to be zero: for a target that holds nothing yet. */
  | "allocated"
  /** Nothing: the target holds exactly what the disk holds now. */
  | "nothing"
  /** Everything is suspect: the target holds an earlier state, which may be compared with. */
  | "suspect";

export interface TargetStatus {
  readonly targetId: string;
  readonly pendingBytes: number;
  readonly inFlightBytes: number;
  readonly stagedBytes: number;
  /** Of which nobody knows whether the target has it; the next checkpoint takes it along. */
  readonly suspectBytes: number;
  readonly suspicionCauses: readonly SuspicionCause[];
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
  /** Of the backing: a path or a URI, or "memory". */
  readonly path: string;
  readonly bitmapPath: string;
  /** False when the bitmap was new, or not closed the last time. */
  readonly openedClean: boolean;
  /** What spoke against the backing being as it was left; everything is suspect then. */
  readonly foundCauses: readonly SuspicionCause[];
  readonly #native: NativeTrackedDevice;
  readonly #servers = new Set<NbdServer>();
  readonly #checkpoints = new Set<Checkpoint>();
  readonly #attached = new Set<AttachedDevice>();
  #isClosed = false;
  #sizeBytes: number;
  #granularityBytes: number;
  #resizing: Promise<void> = Promise.resolve();

  private constructor(native: NativeTrackedDevice, path: string, bitmapPath: string) {
    this.#native = native;
    this.diskId = native.diskId;
    this.path = path;
    this.bitmapPath = bitmapPath;
    this.#sizeBytes = native.sizeBytes;
    this.#granularityBytes = native.granularityBytes;
    this.openedClean = native.openedClean;
    this.foundCauses = suspicionCausesOf(native.foundCauses);
  }

  /** Opens the disk and its bitmap; makes the bitmap when there is none. */
  static async open(options: TrackedDiskOptions): Promise<TrackedDisk> {
    const backing = backingOfOptions(options);
    const bitmapPath = options.bitmapPath ?? defaultBitmapPath(backing);
    const device = await openOwned(backing, bitmapPath, options.sharedStorage);
    try {
      return await TrackedDisk.track(device, { ...options, path: placeOf(backing), bitmapPath });
    } catch (thrown) {
      // What could not be tracked was not taken over, or is gone already.
      await device.close().catch(() => undefined);
      throw thrown;
    }
  }

  /** As open(), over a device (tidemark/testing has some). Takes the device over. */
  static async track(backing: NativeDevice, options: TrackedDiskOptions): Promise<TrackedDisk> {
    const place = options.path ?? placeOf(backingOfOptions(options));
    const bitmapPath = options.bitmapPath ?? `${place}.tidemark`;
    const isNew = await isMissing(bitmapPath);
    const diskId = options.diskId ?? (isNew ? randomUUID() : ANY_DISK);
    const granularityBytes = options.granularityBytes ?? 0;
    const native = await opened(bitmapPath, () =>
      binding.trackDevice(
        backing,
        bitmapPath,
        diskId,
        granularityBytes,
        isNew,
        options.durability ?? "power-safe",
      ),
    );
    await giveBackLeftovers(native);
    return new TrackedDisk(native, place, bitmapPath);
  }

  /** The device of the data plane, for modules of this package. */
  get native(): NativeTrackedDevice {
    if (this.#isClosed) throw new TidemarkError("CLOSED", "Cannot use the disk: it is closed.");
    return this.#native;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Doubles when the disk grows beyond what its maps can hold. */
  get granularityBytes(): number {
    return this.#granularityBytes;
  }

  /**
   * Grows the disk while it is written to, or cuts its end off (`dropsData`); durable when
   * it resolves. What it grew by counts as changed for every target. A file is extended; a block device must
   * have been, by its administrator. Open checkpoints are waited for (IN_USE when
   * they do not end in time), new ones wait for this.
   *
   * New NBD connections see the new size, and so does an attached /dev/nbdN; see
   * docs/resize.md for what a running guest needs.
   */
  async resize(sizeBytes: number, options: ResizeOptions = {}): Promise<void> {
    const { native } = this;
    const resizing = this.#resizing.then(() =>
      retriedWhileInUse(
        () => resizeNative(native, sizeBytes, options),
        options.checkpointWaitMs ?? 60_000,
      ),
    );
    this.#resizing = resizing.catch(() => undefined);
    await resizing;
    this.#sizeBytes = native.sizeBytes;
    this.#granularityBytes = native.granularityBytes;
    for (const attached of this.#attached) await attached.resized();
    if (options.reconnectClients !== true) return;
    for (const server of this.#servers) server.reconnectClients();
  }

  /**
   * Changes the image's lock: to "exclusive" at the end of a hand-over, when QEMU
   * has let go of the image (IN_USE until then), to "shared" at the begin of one.
   */
  async lockImage(lock: ImageLock): Promise<void> {
    await rethrown(() => this.native.lockImage(lock));
  }

  /** For checkpoints alone: resolves when no resize is under way. */
  async resized(): Promise<void> {
    await this.#resizing;
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
      suspectBytes: bytes(target.suspectBlocks),
      suspicionCauses: suspicionCausesOf(target.suspicionCauses),
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
    const server = await NbdServer.start({ ...options, acceptsAtOnce: false });
    try {
      server.addExport(options.exportName ?? "", this.native, { description: this.path });
      server.accept();
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
    this.#servers.add(server);
    return server;
  }

  /** How safe the marks are against power loss, now. */
  durability(): DurabilityStatus {
    return durabilityOf(this.native);
  }

  /** Whether the disk is still ours; null without `sharedStorage`. */
  ownership(): OwnershipStatus | null {
    return binding.ownershipOf(this.native);
  }

  /** The server behind an NBD backing; null for other backings. */
  upstream(): UpstreamStatus | null {
    return this.native.upstream();
  }

  /**
   * Gives the disk as a block device of this machine, "/dev/nbdN" or "/dev/loopN";
   * finds the device again that a killed process has left. Detach it before close().
   */
  async attach(options: AttachOptions = {}): Promise<AttachedDevice> {
    const { native, diskId, path } = this;
    const onEnd = (ended: AttachedDevice) => this.#attached.delete(ended);
    const attached = await attachDisk({ native, diskId, path }, options, onEnd);
    this.#attached.add(attached);
    // What a former process has left is as large as the disk was then.
    await attached.resized().catch(async (thrown: unknown) => {
      await attached.release();
      throw thrown;
    });
    return attached;
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

  /** Ends its servers, syncs, and marks the bitmap clean. IN_USE while a checkpoint is open, or attached. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#checkpoints.size > 0) {
      throw new TidemarkError(
        "IN_USE",
        `Cannot close disk ${this.path}: because a checkpoint of it is open.`,
        { hint: "End the checkpoint with commit() or rollback() first." },
      );
    }
    for (const { devicePath } of this.#attached) {
      throw new TidemarkError(
        "IN_USE",
        `Cannot close disk ${this.path}: because it is attached as ${devicePath}.`,
        { hint: "End that with detach() or release() first." },
      );
    }
    this.#isClosed = true;
    for (const server of this.#servers) await closeServer(server, [this.#native]);
    if (this.#native.upstream() !== null) await flushUpstream(this.#native);
    await rethrown(() => this.#native.close());
  }

  /** close(), and exportDiskState(): another holder may go on with the disk. */
  async handOver(statePath: string): Promise<DiskState> {
    await this.close();
    return exportDiskState({ bitmapPath: this.bitmapPath, statePath, diskId: this.diskId });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function resizeNative(
  native: NativeTrackedDevice,
  sizeBytes: number,
  { dropsData = false }: ResizeOptions,
): Promise<void> {
  if (sizeBytes >= native.sizeBytes) return native.resize(sizeBytes);
  if (dropsData) return native.shrink(sizeBytes);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot resize the disk to ${sizeBytes} bytes: because it has ${native.sizeBytes}, and what lies past the new end would be gone.`,
    { hint: "Shrink what is on the disk first, then say so (dropsData, --drop-data)." },
  );
}

function backingOfOptions(options: TrackedDiskOptions): DiskBacking {
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

function defaultBitmapPath(backing: DiskBacking): string {
  if (backing.kind === "file") return `${backing.path}.tidemark`;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot track ${placeOf(backing)}: because its bitmap needs a file of its own.`,
    { hint: "Name one (bitmapPath, --bitmap)." },
  );
}

/** No checkpoint outlives its process: what one left in flight counts as changed again. */
async function giveBackLeftovers(native: NativeTrackedDevice): Promise<void> {
  for (const target of native.targets()) {
    if (target.inFlightBlocks > 0) await rethrown(() => native.giveBack(target.slot));
  }
}
