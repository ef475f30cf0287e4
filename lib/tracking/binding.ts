/**
 * The addon, typed. This is the only file that loads it.
 *
 * Offsets and lengths are bytes as JavaScript numbers (exact up to 8 PiB).
 * Every asynchronous method works on a thread of its own and rejects with an
 * Error that has `code` (see model/errors.ts) and, where the kernel gave one,
 * `errno`. Objects keep what they are made from alive; `close()` is idempotent
 * and waits behind what is under way; later calls reject with CLOSED.
 */
import { createRequire } from "node:module";
import type { DiskState } from "../model/disk-state.js";
import type { Durability } from "../model/durability.js";
import type { NativeCaptureContent, NativeKnownContentBinding } from "./capture-binding.js";
import type { NativeFold, NativeLayerBinding, NativeScratchBudget } from "./layer-binding.js";
import type { UpstreamStatus } from "./upstream-status.js";

/** How an image is locked against QEMU and its tools (docs/image-locking.md). */
export type ImageLock =
  /** Nobody else may write. */
  | "exclusive"
  /** For a hand-over: the other side has it too, and is not asked. */
  | "shared"
  | "none";

/** Any block device of the data plane. */
export interface NativeDevice {
  readonly sizeBytes: number;
  readonly engine: string;
  read(offsetBytes: number, into: Uint8Array): Promise<void>;
  write(offsetBytes: number, from: Uint8Array): Promise<void>;
  flush(): Promise<void>;
  /** Grows it; INVALID_ARGUMENT for less than it has, UNSUPPORTED where it cannot grow. */
  resize(sizeBytes: number): Promise<void>;
  /** Changes the lock of a file or block device; IN_USE leaves it as it was. */
  lockImage(lock: ImageLock): Promise<void>;
  trim(offsetBytes: number, lengthBytes: number): Promise<void>;
  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** [length, flags, ...] of a named context from `offsetBytes` on. */
  extents(
    context: string,
    offsetBytes: number,
    lengthBytes: number,
    maxExtents: number,
  ): Promise<Float64Array>;
  /**
   * SHA-256 of every `blockBytes` of each extent ([offset, length, ...]); past the
   * disk's end as zeroes.
   */
  hashBlocks(extents: Float64Array, blockBytes: number): Promise<Buffer>;
  /** Before close(): what waits for an upstream that is away fails, as does all that follows. */
  giveUp(): void;
  /** Of an NBD device, also of a tracked one; null for others. */
  upstream(): UpstreamStatus | null;
  close(): Promise<void>;
}

export interface NativeFaultDevice extends NativeDevice {
  failNext(op: IoOp, errno: number, count: number, skip: number, partialBytes: number): void;
  hold(op: IoOp): void;
  heldCount(): number;
  releaseHeld(): void;
}

/** Passes everything on to the device behind it, whose size and traits it has. */
export interface NativeExchangeableDevice extends NativeDevice {
  /**
   * Takes `next` over, of the same size; nothing reads the former one any more when it
   * resolves, and it is closed. Also after another object took this device over.
   */
  exchange(next: NativeDevice): Promise<void>;
}

export interface NativeLayeredDevice extends NativeDevice {
  /**
   * Begins its fold, or goes on with it: into `basePath`, the file with which it was opened; opened
   * without a base, into a file that is not there or holds nothing. Durable when it
   * resolves. Also after another object took the device over. IN_USE: it is being folded.
   */
  fold(basePath: string): Promise<NativeFold>;
}

export type IoOp = "read" | "write" | "flush" | "trim" | "writeZeroes" | "cache";

export interface NativeIntentStatus {
  readonly durability: Durability;
  readonly regionBytes: number;
  readonly regionCount: number;
  /** Regions that power loss now would leave suspect. */
  readonly markedRegions: number;
  readonly syncCount: number;
  readonly waitCount: number;
  /** "": none. */
  readonly trouble: string;
  /** Of the bitmap's file: rises with every change of its header, over all opens. */
  readonly mapSequence: number;
}

export type MapKind = "live" | "pending" | "inFlight" | "staged" | "suspect";

export interface NativeTarget {
  readonly id: string;
  readonly slot: number;
  readonly pendingBlocks: number;
  readonly inFlightBlocks: number;
  readonly stagedBlocks: number;
  readonly suspectBlocks: number;
  /** Bits of SUSPICION_CAUSES. */
  readonly suspicionCauses: number;
}

export interface NativeTrackedDevice extends NativeDevice {
  /** The one in the bitmap. */
  readonly diskId: string;
  readonly granularityBytes: number;
  readonly openedClean: boolean;
  /** What the opening found against the backing, bits of SUSPICION_CAUSES. */
  readonly foundCauses: number;
  intentStatus(): NativeIntentStatus;
  /** Cuts its end off; UNSUPPORTED where the backing cannot be cut. */
  shrink(sizeBytes: number): Promise<void>;
  /** What counts as changed for it is durable before it is there. */
  addTarget(id: string, start: "nothing" | "allocated" | "all" | "suspect"): Promise<number>;
  removeTarget(slot: number): Promise<void>;
  targets(): NativeTarget[];
  liveBlocks(): number;
  markPending(slot: number, offsetBytes: number, lengthBytes: number): Promise<void>;
  /** As markPending(), of [offset, length, ...] within the disk; durable together. */
  markPendingExtents(slot: number, extents: Float64Array): Promise<void>;
  /** Marks what the backing does not report as zero; answers the bytes marked. */
  markAllocated(slot: number): Promise<number>;
  /** [offset, length, ...] of dirty runs, at most `maxExtents`, each at most `maxExtentBytes`. */
  dirtyExtents(
    map: MapKind,
    slot: number,
    fromBytes: number,
    maxExtents: number,
    maxExtentBytes: number,
  ): Float64Array;
  /** Before the content is read; answers what settleComparison() wants to know. */
  beginComparison(slot: number): Promise<number>;
  /** False, and nothing has changed, when blocks became suspect since beginComparison(). */
  settleComparison(
    slot: number,
    suspicionCount: number,
    equal: Float64Array,
    different: Float64Array,
  ): Promise<boolean>;
  /** Durably a sequence of the bitmap's file above its present one and `above`. */
  advanceMapSequence(above: number): Promise<number>;
  markAllSuspect(slot: number, causes: number): Promise<void>;
  /** More that is pending and suspect, durable when it resolves. */
  addMarks(
    slot: number,
    pending: Float64Array,
    suspect: Float64Array,
    causes: number,
  ): Promise<void>;
  commit(slot: number): Promise<void>;
  giveBack(slot: number): Promise<void>;
  stage(slot: number): Promise<void>;
  unstage(slot: number): Promise<void>;
}

export interface NativeCapture extends NativeCaptureContent {
  /** Reads as the disk was at the cut; `name` is what the dirty context is called. Close it first. */
  device(name: string): NativeDevice;
}

export interface NativeCheckpointOptions {
  readonly drainLimitMs: number;
  readonly withCaptures: boolean;
  /** With captures: all of each disk can be read as it was, not only what changed. */
  readonly wholeDisk: boolean;
  /** Without captures: takes about this much of each disk's pending blocks; 0 for all. */
  readonly limitBytes: number;
  readonly captureMemoryBytes: number;
  /** "" for none; one file a member, named by its position behind it. */
  readonly spillPath: string;
  readonly spillBytes: number;
}

export interface NativeCheckpoint {
  readonly pauseNs: number;
  readonly requestsInFlight: number;
  readonly captures: NativeCapture[];
}

export interface NativeDiskState extends Omit<DiskState, "bitmapNames"> {
  readonly annex: string;
}

export type DiskStateStage =
  /** Its export did not come to its end: it cannot be imported. */
  "unsealed" | "exported" | "imported" | "taken back";

export interface NativeOwnership {
  readonly epoch: number;
  readonly isFenced: boolean;
}

export interface NativeNbdTls {
  readonly certificatePem: string;
  readonly keyPem: string;
  /** "": no client certificate is asked for. */
  readonly authorityPem: string;
  readonly allowedClients: string[];
}

export interface NativeNbdServerOptions {
  readonly unixPath: string;
  readonly host: string;
  readonly port: number;
  /** A listening socket that the server takes over; -1 for none. */
  readonly listenFd: number;
  /** 0 for none. */
  readonly idleLimitMs: number;
  readonly threadCount: number;
  readonly maxConnections: number;
  /** False: nobody is let in before accept(). */
  readonly acceptsAtOnce: boolean;
  readonly tls: NativeNbdTls | null;
  /** Its client is this machine's kernel: nothing that serves it may wait for memory. */
  readonly forKernelClient?: boolean;
}

export interface NativeNbdServer {
  readonly address: string;
  addExport(name: string, device: NativeDevice, description: string, readOnly: boolean): void;
  removeExport(name: string): Promise<void>;
  clientCount(name: string): number;
  accept(): void;
  setTls(tls: NativeNbdTls): void;
  /** Ends its connections after what is in flight; who comes back is served again. */
  reconnectClients(name: string): void;
  statistics(): {
    connectionsOpen: number;
    connectionsTotal: number;
    requestsTotal: number;
    errorsTotal: number;
    tlsRefusalsTotal: number;
    lastTlsRefusal: string;
  };
  close(): Promise<void>;
}

export interface NativeNbdAttachment {
  /** Of the NBD server, and its export. */
  readonly unixPath: string;
  readonly exportName: string;
  readonly connectionCount: number;
  readonly blockBytes: number;
  readonly requestLimitSeconds: number;
  readonly reconnectLimitSeconds: number;
  /** Shown in /sys/block/nbdN/backend where the kernel keeps it. */
  readonly backendId: string;
}

export interface NativeLinkKeeper {
  close(): Promise<void>;
}

/** A hash that is being made; synchronous. */
export interface NativeXxh3 {
  update(bytes: Uint8Array): void;
  /** XXH3-128 of all bytes so far, in canonical order. */
  digest(): Buffer;
}

export interface NativeBinding extends NativeLayerBinding, NativeKnownContentBinding {
  /** `lock` follows QEMU's convention for images; IN_USE when somebody's contradicts it. */
  openFileDevice(
    path: string,
    readOnly: boolean,
    direct: boolean,
    lock: ImageLock,
  ): Promise<NativeDevice>;
  /** `reconnectLimitMs` 0: for ever. */
  openNbdDevice(
    uri: string,
    connectionCount: number,
    readOnly: boolean,
    reconnectLimitMs: number,
  ): Promise<NativeDevice>;
  memoryDevice(sizeBytes: number): NativeDevice;
  faultDevice(inner: NativeDevice): NativeFaultDevice;
  exchangeableDevice(first: NativeDevice): NativeExchangeableDevice;
  /**
   * Creates the bitmap when `create`; else opens it, the nil UUID standing for
   * whichever disk it is of. Takes over `backing`.
   */
  trackDevice(
    backing: NativeDevice,
    bitmapPath: string,
    diskId: string,
    granularityBytes: number,
    create: boolean,
    durability: Durability,
  ): Promise<NativeTrackedDevice>;
  /**
   * Of a disk that nobody has open; the nil UUID stands for whichever disk it is.
   * `annex`: at most 64 KiB, for who imports it.
   */
  exportState(
    bitmapPath: string,
    diskId: string,
    statePath: string,
    annex: string,
  ): Promise<NativeDiskState>;
  /**
   * `foundCauses`: bits of SUSPICION_CAUSES, why all of the disk is suspect. `backing`
   * stays the caller's.
   */
  importState(
    statePath: string,
    bitmapPath: string,
    diskId: string,
    backing: NativeDevice,
  ): Promise<NativeDiskState & { readonly foundCauses: number }>;
  /** Without a state (""), by force: all of the disk is suspect. */
  takeBackState(bitmapPath: string, statePath: string): Promise<void>;
  describeState(statePath: string): Promise<NativeDiskState & { readonly stage: DiskStateStage }>;
  /** Takes the device over; the one it answers writes only while the record says that we may. */
  ownDevice(
    backing: NativeDevice,
    ownerPath: string,
    byForce: boolean,
    leaseMs: number,
  ): Promise<NativeDevice>;
  /** For who owns the disk: a bitmap that its former owner still holds. */
  takeBitmapOver(bitmapPath: string): Promise<void>;
  /** Null for what is not owned through a record. */
  ownershipOf(device: NativeDevice): NativeOwnership | null;
  checkpoint(
    disks: NativeTrackedDevice[],
    slots: number[],
    options: NativeCheckpointOptions,
  ): Promise<NativeCheckpoint>;
  attachCapture(id: number): NativeCapture;
  /** At once instead of by the collector; empty afterwards. Only what has memory of its own. */
  freeMemory(bytes: Uint8Array): void;
  xxh3(): NativeXxh3;
  startNbdServer(options: NativeNbdServerOptions): Promise<NativeNbdServer>;
  /**
   * `layerPaths` oldest first; `scratchPath` "" for read-only. `basePath` "" for none. Where
   * a fold has begun, `basePath` is what it was given. Without a budget the scratch may take
   * what there is.
   */
  openLayeredDevice(
    diskId: string,
    sizeBytes: number,
    granularityBytes: number,
    basePath: string,
    layerPaths: string[],
    scratchPath: string,
    budget?: NativeScratchBudget,
  ): Promise<NativeLayeredDevice>;
  /**
   * For scratches that may take `limitBytes` together, as long as their file system has
   * `floorBytes` free. Writes beyond it fail with ENOSPC.
   */
  scratchBudget(limitBytes: number, floorBytes: number): NativeScratchBudget;
  /** Rejects with UNSUPPORTED, saying what to do, when the kernel has no nbd. */
  probeKernelNbd(): Promise<void>;
  /** The number of the /dev/nbdN; `index` -1 takes any that is free. */
  connectKernelNbd(attachment: NativeNbdAttachment, index: number): Promise<number>;
  reconnectKernelNbd(attachment: NativeNbdAttachment, index: number): Promise<void>;
  /** Of a connected device, mounted or not. */
  resizeKernelNbd(attachment: NativeNbdAttachment, index: number, sizeBytes: number): Promise<void>;
  /** Flushes; IN_USE while it is mounted. */
  disconnectKernelNbd(index: number): Promise<void>;
  /** Without flushing or asking: what is not written is lost. */
  dropKernelNbd(index: number): Promise<void>;
  /** Gives the device fresh connections when the kernel has given some up. */
  keepLinks(attachment: NativeNbdAttachment, index: number): Promise<NativeLinkKeeper>;
  /** The loop device's path. */
  attachLoopDevice(filePath: string, blockBytes: number): Promise<string>;
  /** Flushes; IN_USE while it is mounted. */
  detachLoopDevice(devicePath: string): Promise<void>;
  /**
   * Without flushing or asking, if `filePath` is its file; while something has it
   * open it goes with the last one's close.
   */
  dropLoopDevice(devicePath: string, filePath: string): Promise<void>;
  /** Aborts its connection and unmounts it: what waits for it gets an error. */
  endFuseMount(path: string): Promise<void>;
  /** A listening TCP socket with SO_REUSEPORT; the descriptor is the caller's to close. */
  reusePortSocket(host: string, port: number): number;
}

const require = createRequire(import.meta.url);

export const binding = (require("bindings") as (name: string) => NativeBinding)("tidemark");
