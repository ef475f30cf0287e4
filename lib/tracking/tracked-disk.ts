import { randomUUID } from "node:crypto";
import type { DiskState } from "../model/disk-state.js";
import { TidemarkError } from "../model/errors.js";
import { type SuspicionCause, suspicionBitOf, suspicionCausesOf } from "../model/suspicion.js";
import { ANY_DISK } from "./any-disk.js";
import { type AttachedDevice, attachDisk, type AttachOptions } from "./attach-disk.js";
import { binding, type ImageLock, type NativeDevice, type NativeTrackedDevice } from "./binding.js";
import { type Backup, type BackupOptions, beginBackup } from "./backup.js";
import { BitmapNames } from "./bitmap-names.js";
import { placeOf } from "./disk-backing.js";
import { type Checkpoint, type CheckpointOptions, takeCheckpoint } from "./checkpoint.js";
import { closeServer } from "./close-server.js";
import { exportDiskState } from "./disk-state.js";
import { durabilityOf, type DurabilityStatus } from "./durability.js";
import { flushUpstream } from "./flush-upstream.js";
import { giveBackLeftovers } from "./give-back-leftovers.js";
import { type ImageUse, imageUseOf } from "./image-use.js";
import { isMissing, opened, rethrown, retriedWhileInUse } from "./native-call.js";
import { NbdServer, type NbdServerOptions } from "./nbd-server.js";
import { openOwned, type OwnershipStatus } from "./owned-backing.js";
import { requireClosable } from "./require-closable.js";
import { resizeNative } from "./resize-native.js";
import { newTargetIdOf, targetIdOf } from "./target-id.js";
import { TargetNotes } from "./target-notes.js";
import type { BitmapStatus, TargetStart, TargetStatus } from "./target-status.js";
import { targetStatusesOf } from "./target-statuses-of.js";
import {
  backingOfOptions,
  defaultBitmapPath,
  type ResizeOptions,
  type TrackedDiskOptions,
} from "./tracked-disk-options.js";
import type { UpstreamStatus } from "./upstream-status.js";

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
  /** For checkpoints, and what makes them doubtful, alone. */
  readonly notes: TargetNotes;
  readonly #native: NativeTrackedDevice;
  readonly #bitmapNames: BitmapNames;
  readonly #servers = new Set<NbdServer>();
  readonly #checkpoints = new Set<Checkpoint>();
  readonly #attached = new Set<AttachedDevice>();
  #isClosed = false;
  #sizeBytes: number;
  #granularityBytes: number;
  #resizing: Promise<void> = Promise.resolve();
  #image: ImageUse = { lock: "none", isDirect: false };

  private constructor(
    native: NativeTrackedDevice,
    bitmapNames: BitmapNames,
    path: string,
    bitmapPath: string,
  ) {
    this.#native = native;
    this.#bitmapNames = bitmapNames;
    this.diskId = native.diskId;
    this.path = path;
    this.bitmapPath = bitmapPath;
    this.notes = new TargetNotes(bitmapPath, native.diskId);
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
      const path = placeOf(backing);
      const disk = await TrackedDisk.track(device, { ...options, path, bitmapPath });
      disk.#image = imageUseOf(backing);
      return disk;
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
    return new TrackedDisk(native, await BitmapNames.open(bitmapPath), place, bitmapPath);
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
   * has let go of the image (IN_USE until then), to "none" at the begin of one.
   */
  async lockImage(lock: ImageLock): Promise<void> {
    await rethrown(() => this.native.lockImage(lock));
    this.#image = { ...this.#image, lock };
  }

  get image(): ImageUse {
    return this.#image;
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
    const id = newTargetIdOf(name);
    if (this.native.targets().some((target) => target.id === id)) return;
    await this.notes.forget(id);
    await rethrown(() => this.native.addTarget(id, start));
  }

  async removeTarget(name: string): Promise<void> {
    await rethrown(() => this.native.removeTarget(this.slotOf(name)));
    await this.notes.forget(name);
  }

  targets(): TargetStatus[] {
    return targetStatusesOf(this.native, this);
  }

  /**
   * Rises with what happens to the bitmap's file, over all opens. Who keeps it elsewhere
   * and finds a smaller one after an open has an older copy of the bitmap before him,
   * which lacks marks: suspectAll() then.
   */
  get mapSequence(): number {
    return this.native.intentStatus().mapSequence;
  }

  /** Durably above it and `above`: copies of the bitmap that were made before are older from then on. */
  async advanceMapSequence(above = 0): Promise<number> {
    return rethrown(() => this.native.advanceMapSequence(above));
  }

  /** Every block, for every target: what nobody knows is compared. */
  async suspectAll(cause: SuspicionCause): Promise<void> {
    for (const { slot } of this.native.targets()) {
      await rethrown(() => this.native.markAllSuspect(slot, suspicionBitOf(cause)));
    }
  }

  /**
   * A named bitmap for a consumer outside Tidemark, as a backup tool: one of the
   * disk's 16 targets, kept over restarts until it is removed. ALREADY_EXISTS when
   * there is one of that name, so that nobody takes up another's changes unawares.
   */
  async addBitmap(name: string, start: TargetStart = "all"): Promise<void> {
    const id = newTargetIdOf(name);
    if (this.native.targets().some((target) => target.id === id)) {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `Cannot add bitmap ${name} to disk ${this.path}: because it has one of that name.`,
        { hint: "Go on with it, or remove it first." },
      );
    }
    await this.#bitmapNames.add(name, () => this.addTarget(name, start));
  }

  /** IN_USE while a backup of it is open. */
  async removeBitmap(name: string): Promise<void> {
    this.requireBitmap(name);
    await this.removeTarget(name);
    await this.#bitmapNames.remove(name);
  }

  /** Those that addBitmap() made; replication's own targets are in targets() alone. */
  bitmaps(): BitmapStatus[] {
    const liveBytes = this.native.liveBlocks() * this.granularityBytes;
    return this.targets().flatMap(({ targetId, pendingBytes, suspectBytes }) => {
      const name = this.#bitmapNames.nameOf(targetId);
      if (name === null) return [];
      const changedBytes = Math.min(pendingBytes + suspectBytes + liveBytes, this.sizeBytes);
      const isBackupOpen = this.#hasCheckpoint(targetId);
      return [{ name, targetId, changedBytes, suspectBytes, isBackupOpen }];
    });
  }

  /**
   * The disk as it is now, to be read while it is written to, with the changes since
   * the bitmap's last commit. For several disks at one instant see ConsistencyGroup.
   */
  async beginBackup(bitmap: string, options: BackupOptions = {}): Promise<Backup> {
    return beginBackup([this], bitmap, options);
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

  /** For backups alone. A UUID may be that of a relationship's target, which only replication moves on. */
  requireBitmap(name: string): void {
    const id = targetIdOf(name);
    if (!this.native.targets().some((target) => target.id === id)) {
      throw new TidemarkError("NOT_FOUND", `Cannot find bitmap ${name} on disk ${this.path}.`, {
        hint: "Add it: from then on changes count for it.",
      });
    }
    const isOfName = id !== name.toLowerCase();
    if (isOfName || this.#bitmapNames.nameOf(id) !== null) return;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find bitmap ${name} on disk ${this.path}: because that target was not made by addBitmap().`,
    );
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

  /** For checkpoints alone. IN_USE until the last one of the target has ended altogether. */
  requireNoCheckpoint(target: string): void {
    if (!this.#hasCheckpoint(targetIdOf(target))) return;
    throw new TidemarkError(
      "IN_USE",
      `Cannot take a checkpoint: because the last one of target ${target} has not ended.`,
      { hint: "End it with commit() or rollback(), and wait for that." },
    );
  }

  #hasCheckpoint(targetId: string): boolean {
    return [...this.#checkpoints].some((open) => open.targetId === targetId);
  }

  async flush(): Promise<void> {
    await rethrown(() => this.native.flush());
  }

  /** Ends its servers, syncs, and marks the bitmap clean. IN_USE while a checkpoint is open, or attached. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    requireClosable(this.path, this.#checkpoints.size, this.#attached);
    this.#isClosed = true;
    for (const server of this.#servers) await closeServer(server, [this.#native]);
    await this.notes.close();
    if (this.#native.upstream() !== null) await flushUpstream(this.#native);
    await rethrown(() => this.#native.close());
  }

  /** close(), and exportDiskState(): another holder may go on with the disk. */
  async handOver(statePath: string): Promise<DiskState> {
    await this.close();
    return exportDiskState({ bitmapPath: this.bitmapPath, statePath, diskId: this.diskId });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
