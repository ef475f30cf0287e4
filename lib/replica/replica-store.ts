import { type BlockHashRequest, checkHashRequest } from "../model/block-hashes.js";
import type { DeltaHeader, SegmentReceipt, SegmentSource } from "../model/delta.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import { sameOrResized } from "../model/disk-growth.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaEndpoint,
  ReplicaVmStatus,
} from "../model/replica-endpoint.js";
import type {
  OpenSegmentSink,
  SegmentReceiver,
  SegmentRequest,
  SegmentSlot,
} from "../model/segment-receiver.js";
import { parseUuid } from "../model/uuid.js";
import { AsyncLock } from "./async-lock.js";
import { hashOpenedPoint } from "./hash-point.js";
import { checkGeneration, checkHeader, checkVm } from "./check-request.js";
import { compactVm } from "./compact-vm.js";
import { VM_DOCUMENT, type VmDocument } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import { loadVm } from "./load-vm.js";
import { NodeStoreFiles } from "./node-store-files.js";
import type { OpenDelta } from "./open-delta.js";
import { PointChain } from "./point-chain.js";
import { type OpenedPoint, openedPoint, verifyOpenedPoint } from "./opened-point.js";
import type { LayerNative, ReplicaTools } from "./replica-tools.js";
import type { StoreFiles } from "./store-files.js";
import { lockFile, VmPaths, vmsDirectory } from "./store-paths.js";
import { VmReplica } from "./vm-replica.js";

export interface ReplicaStoreOptions {
  /** A directory of the store's own; created when it is missing. */
  readonly root: string;
  /** The addon: `binding` of tracking/binding.js. */
  readonly native: LayerNative;
  /** How putSegment() files a segment in this thread: `openSegmentSink` of segment-sink.js. */
  readonly openSink: OpenSegmentSink;
  /** For tests. */
  readonly files?: StoreFiles;
}

/** What the replica's own administrator sees of a VM, damaged or not. */
export interface ReplicaVmSummary {
  readonly vmId: string;
  /** Null when not even that can be read. */
  readonly vm: ReplicatedVm | null;
  readonly head: RecoveryPoint | null;
  readonly pointCount: number;
  readonly error: TidemarkError | null;
}

/**
 * The replicated VMs of one host, in a directory (docs/formats/replica-store.md).
 *
 * Lives in the main thread and keeps what it decides on in memory; segments'
 * bytes reach the disk through sinks, in whichever thread opens them. Different
 * VMs do not wait for each other.
 */
export class ReplicaStore implements ReplicaEndpoint, SegmentReceiver {
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
  #isClosed = false;

  private constructor(options: ReplicaStoreOptions, files: StoreFiles, unlock: () => void) {
    this.#root = options.root;
    this.#tools = { files, native: options.native };
    this.#openSink = options.openSink;
    this.#unlock = unlock;
  }

  /** IN_USE when another process has it open. A VM that cannot be read does not stop the others. */
  static async open(options: ReplicaStoreOptions): Promise<ReplicaStore> {
    const files = options.files ?? new NodeStoreFiles();
    await files.makeDirectory(vmsDirectory(options.root));
    const store = new ReplicaStore(options, files, await files.lock(lockFile(options.root)));
    try {
      await store.#load();
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
      if (!this.#vms.has(checked.vmId)) await this.#create(checked, first);
      const replica = this.#vm(checked.vmId);
      const { vm: known } = replica.document;
      if (known.name !== checked.name || !sameOrResized(known.disks, checked.disks)) {
        throw new TidemarkError(
          "CONFLICT",
          `Cannot enable VM ${checked.vmId}: because the replica knows it with another name or other disks.`,
          { hint: "Remove the VM from the replica first, or use another one." },
        );
      }
      replica.requireGeneration(first);
      await this.#change(replica, () => replica.resizeDisks(checked.disks));
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
    const open = this.#openDelta(parseUuid(source.deltaId, "delta id"));
    const { segmentIndex, contentBytes } = source.plan;
    const durable = open.receiptOf(segmentIndex);
    if (durable !== null) return durable;
    const { vmId, deltaId, attempt } = open.header;
    const slot = await this.reserveSegment({ vmId, deltaId, attempt, segmentIndex, contentBytes });
    try {
      const receipt = await this.#fill(slot, source, signal);
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
    const deltaId = parseUuid(request.deltaId, "delta id");
    return this.#change(replica, () => replica.commit({ ...request, deltaId }));
  }

  async abandon(vmId: string, deltaId: string, signal?: AbortSignal): Promise<void> {
    this.#begin(signal);
    const replica = this.#vm(vmId);
    await this.#change(replica, () => replica.abandon(parseUuid(deltaId, "delta id")));
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
      return openedPoint(replica, request.pointId);
    });
    try {
      return await this.#hashing.run(() => hashOpenedPoint(this.#tools.native, point, request));
    } catch (thrown) {
      throw toTidemarkError(thrown);
    } finally {
      point.release();
    }
  }

  /** Every VM on disk, also those that cannot be read. */
  async listVms(): Promise<readonly ReplicaVmSummary[]> {
    this.#begin();
    const readable = [...this.#vms].map(([vmId, { document, chain }]) => ({
      vmId,
      vm: document.vm,
      head: chain.head()?.point ?? null,
      pointCount: chain.pointCount,
      error: chain.damage,
    }));
    const unreadable = [...this.#unreadable].map(([vmId, error]) => ({
      vmId,
      vm: null,
      head: null,
      pointCount: 0,
      error,
    }));
    return [...readable, ...unreadable].sort((a, b) => (a.vmId < b.vmId ? -1 : 1));
  }

  /** Pins the point against retention until `release` is called. NOT_FOUND. */
  async openPoint(vmId: string, pointId: string): Promise<OpenedPoint> {
    this.#begin();
    const replica = this.#vm(vmId);
    return this.#change(replica, async () =>
      openedPoint(replica, parseUuid(pointId, "recovery point id")),
    );
  }

  /** Re-reads every block of every layer that the point is made of. CORRUPT names the layer. */
  async verifyPoint(vmId: string, pointId: string, signal?: AbortSignal): Promise<void> {
    const point = await this.openPoint(vmId, pointId);
    try {
      await verifyOpenedPoint(this.#tools.native, point, signal);
    } finally {
      point.release();
    }
  }

  /**
   * Gives up the oldest points until `retainPoints` are left and merges their
   * layers into the base. While points are open nothing is merged. Answers
   * whether it is done. May be repeated after a failure or a crash.
   */
  async compact(vmId: string, retainPoints: number, signal?: AbortSignal): Promise<boolean> {
    this.#begin(signal);
    const replica = this.#vm(vmId);
    try {
      return await replica.compacting.run(() =>
        compactVm(this.#tools, replica, retainPoints, signal),
      );
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

  async #load(): Promise<void> {
    for (const name of await this.#tools.files.list(vmsDirectory(this.#root))) {
      if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name)) continue;
      const paths = new VmPaths(this.#root, name);
      try {
        this.#vms.set(name, await loadVm(this.#tools, paths, name));
      } catch (thrown) {
        // Enabling ended before its last step: the VM was never there.
        const isHalfMade = (await this.#tools.files.size(paths.vmFile)) === null;
        const hasPoints = (await this.#tools.files.list(paths.pointsDirectory)).length > 0;
        if (!isHalfMade || hasPoints) this.#unreadable.set(name, toTidemarkError(thrown));
      }
    }
  }

  async #create(vm: ReplicatedVm, generation: Generation): Promise<void> {
    const unreadable = this.#unreadable.get(vm.vmId);
    if (unreadable !== undefined) throw unreadable;
    const paths = new VmPaths(this.#root, vm.vmId);
    const { files } = this.#tools;
    for (const directory of [
      paths.stagingDirectory,
      paths.layersDirectory,
      paths.pointsDirectory,
      ...vm.disks.map((disk) => paths.diskDirectory(disk.diskId)),
    ]) {
      await files.makeDirectory(directory);
    }
    const document: VmDocument = { vm, generation, generationHistory: [generation] };
    await writeDocument(files, VM_DOCUMENT, paths.vmFile, document);
    const base = { vmId: vm.vmId, pointId: null, sequence: 0, mergingSequence: null };
    const state = { document, chain: new PointChain(base), session: null, open: null };
    this.#vms.set(vm.vmId, new VmReplica(this.#tools, paths, { ...state, nextOrder: 1 }));
  }

  async #fill(
    slot: SegmentSlot,
    source: SegmentSource,
    signal: AbortSignal | undefined,
  ): Promise<SegmentReceipt> {
    const sink = await this.#openSink(slot);
    let wireBytes = 0;
    try {
      for await (const chunk of source.records(signal)) {
        signal?.throwIfAborted();
        wireBytes += chunk.byteLength;
        await sink.write(chunk);
      }
      return { ...(await sink.finish()), wireBytes };
    } catch (thrown) {
      await sink.abort();
      throw thrown;
    }
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
    throw (
      this.#unreadable.get(canonical) ??
      new TidemarkError(
        "NOT_FOUND",
        `Cannot find VM ${canonical}: because it is not replicated here.`,
        { hint: "Enable replication of the VM to this host." },
      )
    );
  }

  #openDelta(deltaId: string): OpenDelta {
    for (const { open } of this.#vms.values()) {
      if (open?.header.deltaId === deltaId) return open;
    }
    throw new TidemarkError("NOT_FOUND", `Cannot use delta ${deltaId}: because it is not open.`);
  }
}
