import { type BlockHashRequest, checkHashRequest } from "../model/block-hashes.js";
import type { DeltaHeader, SegmentReceipt, SegmentSource } from "../model/delta.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { firstEntry, type Lineage, type Succession } from "../model/lineage.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaVmStatus,
  ReturnedDisks,
  ReturnRequest,
} from "../model/replica-endpoint.js";
import type { ImportTarget } from "../model/initial-media.js";
import type { OpenSegmentSink, SegmentRequest, SegmentSlot } from "../model/segment-receiver.js";
import { parseUuid } from "../model/uuid.js";
import { AsyncLock } from "./async-lock.js";
import { hashPoint } from "./hash-point.js";
import {
  checkCommit,
  checkGeneration,
  checkHeader,
  checkSuccession,
  checkVm,
  requireSameVm,
} from "./check-request.js";
import { createVm, type NewVmOptions } from "./create-vm.js";
import { deleteVm, requireUnused } from "./delete-vm.js";
import { fillSlot } from "./fill-slot.js";
import { findOpenDelta } from "./find-open-delta.js";
import { type FormerPrimary, NEVER_PRIMARY } from "./former-primary.js";
import { loadVms } from "./load-vms.js";
import { NodeStoreFiles } from "./node-store-files.js";
import type { OpenDelta } from "./open-delta.js";
import type { PointUse } from "./pins.js";
import { PointRetention } from "./point-retention.js";
import { type OpenedPoint, openedForHashes, openedPoint } from "./opened-point.js";
import type { LayerNative, ReplicaTools } from "./replica-tools.js";
import { settleManifests } from "./rewrite-manifest.js";
import type { StoreFiles } from "./store-files.js";
import { notReplicated } from "./not-replicated.js";
import { NOBODY_WATCHES, type SuccessionWatch } from "./succession-watch.js";
import { succeedVm } from "./succeed-vm.js";
import { takeReturned } from "./take-returned.js";
import { lockFile, VmPaths, vmsDirectory } from "./store-paths.js";
import type { VmReplica } from "./vm-replica.js";
import {
  isReplicated,
  type ReplicaVmSummary,
  summaryOf,
  summaryOfUnreadable,
} from "./vm-summary.js";

export interface ReplicaStoreOptions {
  /** A directory of the store's own; created when it is missing. */
  readonly root: string;
  /** The addon: `binding` of tracking/binding.js. */
  readonly native: LayerNative;
  /** How putSegment() files a segment in this thread: `openSegmentSink` of segment-sink.js. */
  readonly openSink: OpenSegmentSink;
  /** For tests. */
  readonly files?: StoreFiles;
  /** The wall clock; for tests. */
  readonly nowMs?: () => number;
}

/**
 * The replicated VMs of one host, in a directory (docs/formats/replica-store.md).
 *
 * Lives in the main thread and keeps what it decides on in memory; segments'
 * bytes reach the disk through sinks, in whichever thread opens them. Different
 * VMs do not wait for each other.
 */
export class ReplicaStore implements ImportTarget {
  readonly #root: string;
  readonly #tools: ReplicaTools;
  readonly #openSink: OpenSegmentSink;
  readonly #unlock: () => void;
  readonly #enabling = new AsyncLock();
  /** One at a time: hashing must not take the threads that commits need. */
  readonly #hashing = new AsyncLock();
  readonly #vms = new Map<string, VmReplica>();
  readonly #unreadable = new Map<string, TidemarkError>();
  readonly #slots = new Map<string, OpenDelta>();
  #former = NEVER_PRIMARY;
  #watch = NOBODY_WATCHES;
  #isClosed = false;
  /** What the administrator and the policy do to recovery points. */
  readonly retention: PointRetention;

  private constructor(options: ReplicaStoreOptions, files: StoreFiles, unlock: () => void) {
    this.#root = options.root;
    this.#tools = { files, native: options.native, nowMs: options.nowMs ?? Date.now };
    this.retention = new PointRetention(this.#tools, (vmId) => {
      this.#begin();
      return this.#vm(vmId);
    });
    this.#openSink = options.openSink;
    this.#unlock = unlock;
  }

  /** IN_USE when another process has it open. A VM that cannot be read does not stop the others. */
  static async open(options: ReplicaStoreOptions): Promise<ReplicaStore> {
    const files = options.files ?? new NodeStoreFiles();
    await files.makeDirectory(vmsDirectory(options.root));
    const store = new ReplicaStore(options, files, await files.lock(lockFile(options.root)));
    try {
      await loadVms(store.#tools, options.root, store.#vms, store.#unreadable);
      return store;
    } catch (thrown) {
      await store.close();
      throw thrown;
    }
  }

  async enable(
    vm: ReplicatedVm,
    generation: Generation,
    signal?: AbortSignal,
  ): Promise<ReplicaVmStatus> {
    this.#begin(signal);
    const checked = checkVm(vm);
    const first = checkGeneration(generation);
    return this.#enabling.run(async () => {
      if (!this.#vms.has(checked.vmId)) {
        this.#former.requireNotOwn(checked.vmId);
        await this.#create(checked, [firstEntry(first)]);
      }
      const replica = this.#vm(checked.vmId);
      requireSameVm(replica.document.vm, checked);
      replica.requireGeneration(first);
      await this.#change(replica, () => replica.takeDisks(checked));
      return replica.status();
    });
  }

  async status(vmId: string, signal?: AbortSignal): Promise<ReplicaVmStatus> {
    this.#begin(signal);
    return this.#vm(vmId).status();
  }

  async openStaging(vmId: string, generation: Generation, signal?: AbortSignal): Promise<string> {
    this.#begin(signal);
    const replica = this.#vm(vmId);
    return this.#change(replica, () => replica.openStaging(checkGeneration(generation)));
  }

  async openDelta(header: DeltaHeader, signal?: AbortSignal): Promise<readonly SegmentReceipt[]> {
    this.#begin(signal);
    const checked = checkHeader(header);
    const replica = this.#vm(checked.vmId);
    return this.#change(replica, () => replica.openDelta(checked));
  }

  /** In this thread: for embedding and tests; a host's listener uses the SegmentReceiver. */
  async putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt> {
    this.#begin(signal);
    const open = findOpenDelta(this.#vms.values(), parseUuid(source.deltaId, "delta id"));
    const { segmentIndex, contentBytes } = source.plan;
    const durable = open.receiptOf(segmentIndex);
    if (durable !== null) return durable;
    const { vmId, deltaId, attempt } = open.header;
    const slot = await this.reserveSegment({ vmId, deltaId, attempt, segmentIndex, contentBytes });
    try {
      const receipt = await fillSlot(this.#openSink, slot, source, signal);
      await this.completeSegment(slot, receipt);
      return receipt;
    } catch (thrown) {
      await this.abortSegment(slot);
      throw toTidemarkError(thrown);
    }
  }

  async reserveSegment(request: SegmentRequest): Promise<SegmentSlot> {
    this.#begin();
    const deltaId = parseUuid(request.deltaId, "delta id");
    const open = this.#vm(request.vmId).requireOpen(deltaId, request.attempt);
    const slot = open.reserve(request);
    this.#slots.set(slot.slotId, open);
    return slot;
  }

  async completeSegment(slot: SegmentSlot, receipt: SegmentReceipt): Promise<void> {
    const open = this.#slots.get(slot.slotId);
    this.#slots.delete(slot.slotId);
    if (open === undefined) {
      throw new TidemarkError("NOT_FOUND", "Cannot keep the segment: because its slot has ended.");
    }
    open.complete(slot.slotId, receipt);
  }

  async abortSegment(slot: SegmentSlot): Promise<void> {
    this.#slots.get(slot.slotId)?.release(slot.slotId);
    this.#slots.delete(slot.slotId);
  }

  async commit(request: CommitRequest, signal?: AbortSignal): Promise<RecoveryPoint | null> {
    this.#begin(signal);
    const replica = this.#vm(request.vmId);
    return this.#change(replica, () => replica.commit(checkCommit(request)));
  }

  async abandon(vmId: string, deltaId: string, signal?: AbortSignal): Promise<void> {
    this.#begin(signal);
    const replica = this.#vm(vmId);
    await this.#change(replica, () => replica.abandon(parseUuid(deltaId, "delta id")));
  }

  async deleteVm(vmId: string, generation: Generation, signal?: AbortSignal): Promise<void> {
    this.#begin(signal);
    const replica = this.#vms.get(parseUuid(vmId, "VM id"));
    if (replica === undefined) return;
    const asked = checkGeneration(generation);
    await this.#delete(replica, () => replica.requireGeneration(asked));
  }

  /** As this host's administrator, whatever its generation; also what cannot be read. NOT_FOUND. */
  async deleteReplica(vmId: string): Promise<void> {
    this.#begin();
    const canonical = parseUuid(vmId, "VM id");
    if (!this.#unreadable.has(canonical)) return this.#delete(this.#vm(canonical), () => undefined);
    await this.#tools.files.removeTree(new VmPaths(this.#root, canonical).directory);
    this.#unreadable.delete(canonical);
  }

  watchSuccessions(watch: SuccessionWatch): void {
    this.#watch = watch;
  }

  lineage(vmId: string): Lineage {
    return this.#vm(vmId).document.lineage;
  }

  /** With a holder of its own the generation is this host's: it may run the VM. */
  async succeed(succession: Succession, signal?: AbortSignal): Promise<ReplicaVmStatus> {
    this.#begin(signal);
    const checked = checkSuccession(succession);
    const { generation, holderId } = checked.to;
    const replica = this.#vm(checked.vmId);
    const isOurs = holderId === generation.id;
    if (isOurs && !replica.document.isPromotedHere)
      this.#watch.mayPromote(replica.document.vm.name);
    await this.#change(replica, () => succeedVm(replica, checked, isOurs));
    this.#watch.succeeded(checked.vmId);
    return replica.status();
  }

  /**
   * Under the VM's lock: its files are the store's no more. What is left is its lineage, so that
   * a primary that returns is fenced. Durable when it resolves; may be repeated.
   */
  async noteGivenAway(vm: ReplicatedVm, lineage: Lineage): Promise<void> {
    this.#end(vm.vmId);
    await this.#create(vm, lineage, { isGivenAway: true });
  }

  /** Whose disks takeReturned() takes. */
  standBeside(former: FormerPrimary): void {
    this.#former = former;
  }

  async takeReturned(request: ReturnRequest, signal?: AbortSignal): Promise<ReturnedDisks> {
    this.#begin(signal);
    const checked = { ...request, vm: checkVm(request.vm) };
    const parts = { tools: this.#tools, root: this.#root, vms: this.#vms, former: this.#former };
    return this.#enabling.run(() => takeReturned(parts, checked));
  }

  async points(vmId: string, signal?: AbortSignal): Promise<readonly RecoveryPoint[]> {
    this.#begin(signal);
    return this.#vm(vmId).chain.points();
  }

  async blockHashes(request: BlockHashRequest, signal?: AbortSignal): Promise<Uint8Array> {
    this.#begin(signal);
    checkHashRequest(request);
    const replica = this.#vm(request.vmId);
    const point = await this.#change(replica, async () => {
      replica.requireHead(request.pointId, checkGeneration(request.generation));
      return openedForHashes(replica, request.pointId);
    });
    try {
      const { vm } = replica.document;
      return await this.#hashing.run(() => hashPoint(this.#tools.native, vm, point, request));
    } catch (thrown) {
      throw toTidemarkError(thrown);
    } finally {
      point.release();
    }
  }

  /** What the VM's staging session has taken in, oldest first. */
  async stagedDeltaIds(vmId: string): Promise<readonly string[]> {
    this.#begin();
    return this.#vm(vmId).session?.deltaIds ?? [];
  }

  /** Whether a delta is on its way in, of any VM. */
  get isReceiving(): boolean {
    return [...this.#vms.values()].some(({ open }) => open !== null);
  }

  /** Every VM that is replicated here, also those that cannot be read. */
  async listVms(): Promise<readonly ReplicaVmSummary[]> {
    this.#begin();
    return [
      ...[...this.#vms.values()].filter(isReplicated).map(summaryOf),
      ...[...this.#unreadable].map(([vmId, error]) => summaryOfUnreadable(vmId, error)),
    ].sort((a, b) => (a.vmId < b.vmId ? -1 : 1));
  }

  /** The point stays, and what it is made of, until `release` is called. NOT_FOUND. */
  async openPoint(vmId: string, pointId: string, use: PointUse = "lasting"): Promise<OpenedPoint> {
    this.#begin();
    const replica = this.#vm(vmId);
    return this.#change(replica, async () => {
      await settleManifests(this.#tools.files, replica);
      return openedPoint(replica, parseUuid(pointId, "recovery point id"), use);
    });
  }

  /** For what works on a VM's files beside replication: verification, copies, comparisons, seeds. */
  async withVm<T>(
    vmId: string,
    work: (tools: ReplicaTools, replica: VmReplica) => Promise<T>,
  ): Promise<T> {
    this.#begin();
    try {
      return await work(this.#tools, this.#vm(vmId));
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }

  /** Ends when the changes that are under way have ended; the lock is free then. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#enabling.run(async () => {});
    const locks = [...this.#vms.values()].flatMap(({ lock, compacting }) => [compacting, lock]);
    await Promise.all(locks.map((lock) => lock.run(async () => {})));
    this.#unlock();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #end(vmId: string): void {
    this.#vms.get(vmId)?.end(notReplicated(vmId));
    this.#vms.delete(vmId);
  }

  async #create(vm: ReplicatedVm, lineage: Lineage, options?: NewVmOptions): Promise<void> {
    const unreadable = this.#unreadable.get(vm.vmId);
    if (unreadable !== undefined) throw unreadable;
    const paths = new VmPaths(this.#root, vm.vmId);
    this.#vms.set(vm.vmId, await createVm(this.#tools, paths, vm, lineage, options));
  }

  /** Behind a merge that is under way, and before whatever else waits for the VM. */
  #delete(replica: VmReplica, check: () => void): Promise<void> {
    return replica.compacting.run(() =>
      this.#change(replica, async () => {
        check();
        requireUnused(replica);
        await deleteVm(this.#tools.files, replica.paths);
        this.#end(replica.document.vm.vmId);
      }),
    );
  }

  /** What fails below with a system's or the addon's error leaves as one of ours. */
  async #change<T>(replica: VmReplica, task: () => Promise<T>): Promise<T> {
    try {
      return await replica.lock.run(task);
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }

  #begin(signal?: AbortSignal): void {
    signal?.throwIfAborted();
    if (this.#isClosed) {
      throw new TidemarkError("CLOSED", "Cannot use the replica store: because it was closed.");
    }
  }

  #vm(vmId: string): VmReplica {
    const canonical = parseUuid(vmId, "VM id");
    const replica = this.#vms.get(canonical);
    if (replica !== undefined) return replica;
    throw this.#unreadable.get(canonical) ?? notReplicated(canonical);
  }
}
