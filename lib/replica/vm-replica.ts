import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { DeltaHeader, SegmentReceipt } from "../model/delta.js";
import { deltaDigest } from "../model/delta-digest.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import { mayBecome, withDisks } from "../model/disk-changes.js";
import { presentEntry, sameGeneration } from "../model/lineage.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { CommitRequest, RecoveryPoint, ReplicaVmStatus } from "../model/replica-endpoint.js";
import { AsyncLock } from "./async-lock.js";
import type { CommitContext } from "./commit-context.js";
import { answerOfEarlierCommit, commitDelta } from "./commit-delta.js";
import { DamageLedger } from "./damage-ledger.js";
import { DELTA_DOCUMENT, type StoredLayer, VM_DOCUMENT, type VmDocument } from "./documents.js";
import {
  deltaRefusal,
  refuseEarlierAttempt,
  requireSegments,
  wrongDigest,
} from "./delta-refusal.js";
import { writeDocument } from "./durable-document.js";
import { extendHead, standsFor } from "./extend-head.js";
import { deltaNotOpen, OpenDelta } from "./open-delta.js";
import { Pins } from "./pins.js";
import type { PointChain } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import { StagingSession } from "./staging-session.js";
import { DELTA_HEADER, layerFileName, type VmPaths } from "./store-paths.js";

/** How long a commit waits for segments that are arriving a second time. */
const SEALING_LIMIT_MS = 10_000;

/** What load-vm found on disk, or enable made. */
export interface VmReplicaState {
  readonly document: VmDocument;
  readonly chain: PointChain;
  readonly session: StagingSession | null;
  readonly open: OpenDelta | null;
  readonly nextOrder: number;
}

/**
 * One VM's replicated state and the rules of what may be added to it. All
 * changes run one after another under `lock`, the lock that a promotion takes
 * too; reading the chain needs none.
 */
export class VmReplica {
  readonly lock = new AsyncLock();
  /** One merge at a time; commits go on meanwhile. */
  readonly compacting = new AsyncLock();
  readonly pins = new Pins();
  /** Manifests of which it is not known which content a crash would leave. */
  readonly unsureSequences = new Set<number>();
  readonly paths: VmPaths;
  readonly chain: PointChain;
  readonly #tools: ReplicaTools;
  #document: VmDocument;
  #session: StagingSession | null;
  #open: OpenDelta | null;
  #nextOrder: number;
  #ledger: Promise<DamageLedger> | null = null;
  #releaseFork: () => void = () => {};

  constructor(tools: ReplicaTools, paths: VmPaths, state: VmReplicaState) {
    this.#tools = tools;
    this.paths = paths;
    this.#document = state.document;
    this.chain = state.chain;
    this.#session = state.session;
    this.#open = state.open;
    this.#nextOrder = state.nextOrder;
    this.#holdFork();
  }

  /** What a VM that goes on from here lies on stays as it is, before anything else may touch it. */
  #holdFork(): void {
    this.#releaseFork();
    this.#releaseFork = () => {};
    const { forkPointId } = presentEntry(this.#document.lineage);
    if (!this.#document.isPromotedHere || forkPointId === null) return;
    const fork = this.chain.find(forkPointId);
    if (fork !== null) this.#releaseFork = this.pins.pin(fork.point, "lasting");
  }

  /** What verifications have found of it. */
  ledger(): Promise<DamageLedger> {
    this.#ledger ??= DamageLedger.open(this.#tools, this).catch((thrown: unknown) => {
      this.#ledger = null;
      throw thrown;
    });
    return this.#ledger;
  }

  get document(): VmDocument {
    return this.#document;
  }

  get open(): OpenDelta | null {
    return this.#open;
  }

  get session(): StagingSession | null {
    return this.#session;
  }

  /** A damaged chain takes nothing more and answers no status: its head is not known. */
  refuseIfDamaged(): void {
    if (this.chain.damage !== null) throw this.chain.damage;
  }

  /** It was deleted: what waits for it is refused. */
  end(reason: TidemarkError): void {
    this.lock.end(reason);
    this.compacting.end(reason);
  }

  requireGeneration(generation: Generation): void {
    if (!sameGeneration(generation, this.#document.generation)) throw this.fenced(generation);
  }

  fenced({ number, id }: Generation): TidemarkError {
    const { vm, generation: present } = this.#document;
    return new TidemarkError(
      "FENCED",
      `Cannot write to VM ${vm.vmId}: because the replica is at generation ${present.number} (${present.id}), not ${number} (${id}).`,
      { hint: "The VM was promoted elsewhere: find out which side is to be kept." },
    );
  }

  /** For a comparison, also with what is staged: whatever else the point may be, a delta would not follow it. */
  requireHead(pointId: string, generation: Generation): void {
    this.refuseIfDamaged();
    this.requireGeneration(generation);
    if (this.#session?.sessionId === pointId) return;
    const headId = this.#headId();
    if (headId === pointId) return;
    throw new TidemarkError(
      "PARENT_MISMATCH",
      `Cannot compare with recovery point ${pointId}: because the replica's head is ${headId ?? "none"}.`,
    );
  }

  async status(): Promise<ReplicaVmStatus> {
    this.refuseIfDamaged();
    const { vm, generation, lineage } = this.#document;
    const headDamage = await (await this.ledger()).headDamage();
    return {
      vm,
      generation,
      lineage,
      head: this.chain.head()?.point ?? null,
      pointCount: this.chain.pointCount,
      stagingSessionId: this.#session?.sessionId ?? null,
      storedBytes: await this.storedBytes(),
      ...(headDamage.length === 0 ? {} : { headDamage }),
    };
  }

  async openStaging(generation: Generation): Promise<string> {
    this.refuseIfDamaged();
    this.requireGeneration(generation);
    const former = this.#session;
    this.#session = await StagingSession.create(this.#tools.files, this.paths, {
      vmId: this.#document.vm.vmId,
      sessionId: randomUUID(),
      parentPointId: this.#headId(),
      generation: this.#document.generation,
      order: this.takeOrder(),
    });
    if (former !== null) await this.#dropSession(former);
    return this.#session.sessionId;
  }

  /** Of a seed, under the lock; there was none before. */
  adoptSession(session: StagingSession): void {
    this.#session = session;
  }

  takeOrder(): number {
    this.#nextOrder += 1;
    return this.#nextOrder - 1;
  }

  async openDelta(header: DeltaHeader): Promise<readonly SegmentReceipt[]> {
    this.#refuseUnlessFollowing(header);
    const open = this.#open;
    if (open?.header.deltaId === header.deltaId) {
      refuseEarlierAttempt(open.header, header);
      if (isDeepStrictEqual({ ...header, attempt: 0 }, { ...open.header, attempt: 0 })) {
        return this.#resume(open, header);
      }
    }
    await this.#supersedeOpen();
    await this.takeDisks(header);
    this.#open = await this.#create(header);
    return [];
  }

  /** Durable when it resolves. A point keeps the disks that it had, and their sizes: its manifest says them. */
  async takeDisks(disks: Pick<ReplicatedVm, "disks" | "excludedDisks">): Promise<void> {
    const vm = withDisks(this.#document.vm, disks);
    if (!isDeepStrictEqual(vm, this.#document.vm)) await this.become({ ...this.#document, vm });
  }

  /** Durable when it resolves. */
  async become(document: VmDocument): Promise<void> {
    await writeDocument(this.#tools.files, VM_DOCUMENT, this.paths.vmFile, document);
    this.#document = document;
    this.#holdFork();
  }

  /** What has arrived and is no recovery point yet. */
  async dropIncoming(): Promise<void> {
    await this.#supersedeOpen();
    const session = this.#session;
    this.#session = null;
    if (session !== null) await this.#dropSession(session);
  }

  async commit(request: CommitRequest): Promise<RecoveryPoint | null> {
    this.refuseIfDamaged();
    this.requireGeneration(request.generation);
    const answer = answerOfEarlierCommit(this.chain, this.#session, request);
    if (answer !== undefined) return answer;
    const { header } = request;
    if (header !== undefined) {
      const point = await this.#extend(header, request.digest);
      if (point !== null) return point;
      await this.openDelta(header);
    }
    const delta = this.requireOpen(request.deltaId, request.attempt);
    this.#refuseUnlessFollowing(delta.header);
    requireSegments(delta, request.digest);
    await delta.beginSealing(SEALING_LIMIT_MS);
    requireSegments(delta, request.digest);
    await this.takeDisks(delta.header);
    const point = await this.#commitOpen(delta, request.digest);
    this.#open = null;
    await this.tidy(delta.directory);
    if (point?.pointId === delta.header.deltaId) await this.#endSession();
    return point;
  }

  /** Null: the head does not stand for it. A delta that is on its way in goes on. */
  async #extend(header: DeltaHeader, digest: string): Promise<RecoveryPoint | null> {
    this.#refuseUnlessFollowing(header);
    const head = this.chain.head();
    if (head === null || !standsFor(head, header)) return null;
    if (digest !== deltaDigest([])) throw wrongDigest(header);
    await this.takeDisks(header);
    return extendHead(this.#commitContext, head, header, digest);
  }

  /** A delta whose stored segments turn out damaged is forgotten, so that it is sent again. */
  async #commitOpen(delta: OpenDelta, digest: string): Promise<RecoveryPoint | null> {
    try {
      return await commitDelta(this.#commitContext, this.#session, delta, digest);
    } catch (thrown) {
      const error = toTidemarkError(thrown);
      if (["CORRUPT", "TRUNCATED", "NOT_FOUND"].includes(error.code)) await this.#supersedeOpen();
      throw error;
    }
  }

  get #commitContext(): CommitContext {
    return { tools: this.#tools, paths: this.paths, chain: this.chain };
  }

  async abandon(deltaId: string): Promise<void> {
    if (this.#open?.header.deltaId === deltaId) await this.#supersedeOpen();
  }

  requireOpen(deltaId: string, attempt: number): OpenDelta {
    const { open } = this;
    if (open?.header.deltaId !== deltaId || open.header.attempt !== attempt) {
      throw deltaNotOpen(deltaId, attempt);
    }
    return open;
  }

  #refuseUnlessFollowing(header: DeltaHeader): void {
    this.refuseIfDamaged();
    this.requireGeneration(header.generation);
    if (!mayBecome(this.#document.vm.disks, header.disks)) {
      throw deltaRefusal("CONFLICT", header, "one of its disks had larger blocks before");
    }
    const headId = this.#headId();
    if (header.parentPointId !== headId) {
      throw deltaRefusal("PARENT_MISMATCH", header, `the replica's head is ${headId ?? "none"}`);
    }
    const { stagingSessionId } = header;
    if (stagingSessionId !== null && stagingSessionId !== this.#session?.sessionId) {
      throw deltaRefusal("STAGING_LOST", header, `there is no staging session ${stagingSessionId}`);
    }
  }

  async #resume(open: OpenDelta, header: DeltaHeader): Promise<readonly SegmentReceipt[]> {
    if (header.attempt > open.header.attempt) {
      await this.#writeHeader(open, header);
      open.raiseAttempt(header);
    }
    return open.receipts();
  }

  async #create(header: DeltaHeader): Promise<OpenDelta> {
    const openingId = randomUUID();
    const document = { openingId, header, order: this.takeOrder() };
    const delta = new OpenDelta(document, this.paths.deltaDirectory(openingId));
    await this.#tools.files.makeDirectory(delta.directory);
    await this.#writeHeader(delta, header);
    return delta;
  }

  async #writeHeader(delta: OpenDelta, header: DeltaHeader): Promise<void> {
    const { openingId, order, directory } = delta;
    const path = join(directory, DELTA_HEADER);
    await writeDocument(this.#tools.files, DELTA_DOCUMENT, path, { openingId, header, order });
  }

  /** The files go when no sink writes to them any more; after a crash the next start removes them. */
  async #supersedeOpen(): Promise<void> {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    open.supersede();
    if (open.isQuiet) await this.#discard(open);
    else void open.quiet().then(() => this.#discard(open));
  }

  async #discard(delta: OpenDelta): Promise<void> {
    // A manifest that may or may not be durable may name these layers: the next start knows.
    if (this.chain.damage !== null) return;
    for (const diskIndex of delta.header.disks.keys()) {
      await this.tidy(this.paths.layer(layerFileName(delta.openingId, diskIndex)));
    }
    await this.tidy(delta.directory);
  }

  /** The session's layers belong to a point now, or to nobody any more. */
  async #endSession(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (session === null) return;
    await this.tidy(session.directory);
    const taken = this.chain.layerFileNames();
    const left = session.layers().filter((layer) => !taken.has(layer.fileName));
    for (const layer of left) await this.tidy(this.paths.layer(layer.fileName));
  }

  async #dropSession(session: StagingSession): Promise<void> {
    if (this.#open?.header.stagingSessionId === session.sessionId) await this.#supersedeOpen();
    await this.tidy(session.directory);
    for (const layer of session.layers()) await this.tidy(this.paths.layer(layer.fileName));
  }

  /** Layers that nothing names any more: now, or when those who read that point's have ended. */
  async removeLayers(layers: readonly StoredLayer[], sequence: number): Promise<void> {
    const paths = layers.map((layer) => this.paths.layer(layer.fileName));
    const remove = async () => {
      for (const path of paths) await this.tidy(path);
    };
    const unused = this.pins.whenUnused(sequence);
    if (unused === null) await remove();
    // Refused when the VM was deleted meanwhile, and they with it.
    else void unused.then(() => this.lock.run(remove)).catch(() => undefined);
  }

  /** What is not removed now is removed at the next start: no reason to fail a caller. */
  async tidy(path: string): Promise<void> {
    await this.#tools.files.removeTree(path).catch(() => undefined);
  }

  #headId(): string | null {
    return this.chain.head()?.point.pointId ?? null;
  }

  /** Of base and layers. */
  async storedBytes(): Promise<number> {
    let storedBytes = 0;
    for (const manifest of this.chain.aboveBase(Number.MAX_SAFE_INTEGER)) {
      for (const disk of manifest.disks) {
        for (const layer of disk.layers) storedBytes += layer.dataBytes;
      }
    }
    for (const { diskId } of this.chain.baseManifest?.disks ?? []) {
      const base = await this.#tools.files.size(this.paths.diskBase(diskId));
      storedBytes += base?.allocatedBytes ?? 0;
    }
    return storedBytes;
  }
}
