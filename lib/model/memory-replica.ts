/**
 * A replica in memory, the reference for the rules of ReplicaEndpoint.
 *
 * Each recovery point keeps the whole content of every disk, so that tests
 * compare points with what was cut: a commit costs one copy of the VM. What a
 * real replica makes durable survives crash(); the rest does not.
 */
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import {
  DELTA_FORMAT_VERSION,
  type DeltaHeader,
  type SegmentReceipt,
  type SegmentSource,
} from "./delta.js";
import {
  blankPastEnd,
  type BlockHashRequest,
  checkHashRequest,
  hashContent,
  hashesOfNothing,
} from "./block-hashes.js";
import type { DiskGeometry, Generation, ReplicatedVm } from "./disk.js";
import { areSameCutDisks, cutDisksOf } from "./cut-disks.js";
import { haveTwins, mayBecome, withDisks } from "./disk-changes.js";
import { TidemarkError } from "./errors.js";
import {
  firstEntry,
  isPromotion,
  type Lineage,
  type LineageEntry,
  presentEntry,
  sameGeneration,
  succeed,
  type Succession,
} from "./lineage.js";
import { extendedPoint } from "./extended-point.js";
import { type FormerDisks, marksOfFormer, pointOfFormer } from "./memory-former-disks.js";
import { pointOfDelta } from "./point-of-delta.js";
import { deltaDigest } from "./delta-digest.js";
import {
  type DecodedSegment,
  type DecodeSegment,
  type MemorySlotPlace,
  memorySegmentSinks,
  memorySlotBytes,
  memorySlotPlace,
  receiptOf,
} from "./memory-segment-sink.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaVmStatus,
  ReturnedDisks,
  ReturnRequest,
} from "./replica-endpoint.js";
import type { ImportTarget } from "./initial-media.js";
import type { SegmentRequest, SegmentSlot } from "./segment-receiver.js";

const RECORD_HEADER_BYTES = 24;
const SEGMENT_HEADER_BYTES = 40;

interface ArrivedSegment {
  readonly receipt: SegmentReceipt;
  readonly segment: DecodedSegment;
  readonly diskId: string;
}

interface OpenDelta {
  header: DeltaHeader;
  /** False after a crash, until the delta is announced again. */
  announced: boolean;
  readonly arrived: Map<number, ArrivedSegment>;
}

interface StagingSession {
  readonly sessionId: string;
  readonly deltaIds: Set<string>;
  readonly segments: ArrivedSegment[];
}

interface KeptPoint {
  point: RecoveryPoint;
  /** As they were cut. */
  readonly of: Pick<DeltaHeader, "disks" | "excludedDisks">;
  /** By disk id. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

interface KeptVm {
  vm: ReplicatedVm;
  lineage: Lineage;
  /** By the present generation. */
  isPromotedHere: boolean;
  readonly points: KeptPoint[];
  session: StagingSession | null;
  open: OpenDelta | null;
  /** The empty delta that last extended the head. */
  extension: { readonly deltaId: string; readonly digest: string } | null;
  /** What its first point is made of. */
  returned: FormerDisks | null;
  /** Highest attempt seen of each delta; Infinity once abandoned. */
  readonly attempts: Map<string, number>;
}

export class MemoryReplica implements ImportTarget {
  readonly #decode: DecodeSegment;
  readonly #vms = new Map<string, KeptVm>();
  readonly #slots = new Map<string, SegmentRequest>();
  readonly #former = new Map<string, FormerDisks>();

  constructor(decode: DecodeSegment) {
    this.#decode = decode;
  }

  async enable(vm: ReplicatedVm, generation: Generation): Promise<ReplicaVmStatus> {
    refuseTwins(vm);
    const kept = this.#vms.get(vm.vmId);
    if (kept === undefined) {
      const fresh = newVm(vm, generation);
      this.#vms.set(vm.vmId, fresh);
      return statusOf(fresh);
    }
    if (kept.vm.name !== vm.name || !mayBecome(kept.vm.disks, vm.disks)) {
      throw refusal("CONFLICT", "enable replication", "the replica holds another VM of this id");
    }
    requireGeneration(kept, generation);
    kept.vm = withDisks(kept.vm, vm);
    return statusOf(kept);
  }

  async status(vmId: string): Promise<ReplicaVmStatus> {
    return statusOf(this.#vm(vmId));
  }

  async openStaging(vmId: string, generation: Generation): Promise<string> {
    const kept = this.#vm(vmId);
    requireGeneration(kept, generation);
    kept.session = { sessionId: randomUUID(), deltaIds: new Set(), segments: [] };
    return kept.session.sessionId;
  }

  async openDelta(header: DeltaHeader): Promise<readonly SegmentReceipt[]> {
    const kept = this.#vm(header.vmId);
    checkHeader(kept, header);
    checkAttempt(kept, header);
    kept.vm = withDisks(kept.vm, header);
    kept.attempts.set(header.deltaId, header.attempt);
    if (kept.open?.header.deltaId === header.deltaId) {
      kept.open.header = header;
      kept.open.announced = true;
    } else {
      kept.open = { header, announced: true, arrived: new Map() };
    }
    return [...kept.open.arrived.values()].map((arrived) => arrived.receipt);
  }

  async putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt> {
    const [kept, open] = this.#openDeltaOf(source.deltaId);
    const { segmentIndex, contentBytes } = source.plan;
    const durable = open.arrived.get(segmentIndex);
    if (durable !== undefined) return durable.receipt;
    const { vmId, deltaId, attempt } = { ...open.header, vmId: kept.vm.vmId };
    const slot = await this.reserveSegment({ vmId, deltaId, attempt, segmentIndex, contentBytes });
    const sink = await memorySegmentSinks(this.#decode)(slot);
    let wireBytes = 0;
    for await (const chunk of source.records(signal)) {
      signal?.throwIfAborted();
      wireBytes += chunk.length;
      await sink.write(chunk);
    }
    const receipt = { ...(await sink.finish()), wireBytes };
    await this.completeSegment(slot, receipt);
    return receipt;
  }

  async reserveSegment(request: SegmentRequest): Promise<SegmentSlot> {
    const open = requireOpen(this.#vm(request.vmId), request.deltaId, request.attempt);
    if (!(request.segmentIndex >= 0 && request.segmentIndex < open.header.segmentCount)) {
      throw refusal("INVALID_ARGUMENT", "receive a segment", "its index is not in the delta");
    }
    const finest = Math.min(...open.header.disks.map((disk) => disk.granularityBytes));
    const records = Math.ceil(request.contentBytes / finest) + 2;
    const capacity = SEGMENT_HEADER_BYTES + request.contentBytes + records * RECORD_HEADER_BYTES;
    const slotId = randomUUID();
    this.#slots.set(slotId, request);
    return { slotId, place: memorySlotPlace(capacity) };
  }

  async completeSegment(slot: SegmentSlot, receipt: SegmentReceipt): Promise<void> {
    const request = this.#slots.get(slot.slotId);
    this.#slots.delete(slot.slotId);
    if (request === undefined) throw refusal("NOT_FOUND", "keep a segment", "its slot is gone");
    const open = requireOpen(this.#vm(request.vmId), request.deltaId, request.attempt);
    const recordBytes = memorySlotBytes(slot.place as MemorySlotPlace);
    const segment = this.#decode(recordBytes);
    const seen = { ...receiptOf(recordBytes, segment), wireBytes: receipt.wireBytes };
    const fits =
      isDeepStrictEqual(seen, receipt) &&
      segment.deltaId === request.deltaId &&
      segment.segmentIndex === request.segmentIndex &&
      segment.diskIndex < open.header.disks.length;
    if (!fits) throw refusal("CORRUPT", "keep a segment", "it is not the one that was announced");
    const before = open.arrived.get(request.segmentIndex);
    const { diskId = "" } = open.header.disks[segment.diskIndex] ?? {};
    if (before === undefined) open.arrived.set(request.segmentIndex, { receipt, segment, diskId });
    else if (before.receipt.sha256 !== receipt.sha256) {
      throw new TidemarkError(
        "CONFLICT",
        "Cannot keep a segment: because it arrived before with other content.",
        { retryable: true, hint: "Announce the delta again and take over that receipt." },
      );
    }
  }

  async abortSegment(slot: SegmentSlot): Promise<void> {
    this.#slots.delete(slot.slotId);
  }

  async commit(request: CommitRequest): Promise<RecoveryPoint | null> {
    const kept = this.#vm(request.vmId);
    requireGeneration(kept, request.generation);
    const repeated = repeatedCommit(kept, request);
    if (repeated !== undefined) return repeated;
    const open = unannounced(kept, request) ?? requireOpen(kept, request.deltaId, request.attempt);
    const { header, arrived } = open;
    checkHeader(kept, header);
    const segments = [...arrived.values()].sort(bySegmentIndex);
    const digest = deltaDigest(segments.map(({ receipt }) => receipt));
    if (segments.length !== header.segmentCount || digest !== request.digest) {
      throw refusal("CORRUPT", "commit the delta", "its segments are not those of the digest");
    }
    if (open === kept.open) kept.open = null;
    kept.vm = withDisks(kept.vm, header);
    if (header.kind === "staging") return intoSession(kept, header, segments);
    return intoPoint(kept, header, segments, digest);
  }

  async abandon(vmId: string, deltaId: string): Promise<void> {
    const kept = this.#vm(vmId);
    kept.attempts.set(deltaId, Number.POSITIVE_INFINITY);
    if (kept.open?.header.deltaId === deltaId) kept.open = null;
  }

  async deleteVm(vmId: string, generation: Generation): Promise<void> {
    const kept = this.#vms.get(vmId);
    if (kept === undefined) return;
    requireGeneration(kept, generation);
    this.#vms.delete(vmId);
  }

  async succeed(succession: Succession): Promise<ReplicaVmStatus> {
    const kept = this.#vm(succession.vmId);
    const lineage = succeed(kept.lineage, succession);
    if (lineage === null) throw fenced(kept);
    if (lineage === kept.lineage) return statusOf(kept);
    this.requireFork(succession);
    kept.lineage = lineage;
    kept.isPromotedHere = isPromotion(succession.to);
    this.dropUnfinished(succession.vmId);
    return statusOf(kept);
  }

  async takeReturned({ vm, lineage, formerHeadId }: ReturnRequest): Promise<ReturnedDisks> {
    const present = presentEntry(lineage);
    const known = this.#vms.get(vm.vmId);
    if (known !== undefined) {
      requireGeneration(known, present.generation);
      const marks = marksOfFormer(known, formerHeadId);
      return { status: statusOf(known), isUnchanged: false, marks };
    }
    const former = this.#former.get(vm.vmId);
    if (former === undefined) throw refusal("NOT_FOUND", "take the VM back", "it was never here");
    const kept = newVm(vm, present.generation);
    kept.lineage = lineage;
    kept.points.push(pointOfFormer(vm, former));
    kept.returned = former;
    this.#vms.set(vm.vmId, kept);
    this.#former.delete(vm.vmId);
    const { isUnchanged } = former;
    return { status: statusOf(kept), isUnchanged, marks: marksOfFormer(kept, formerHeadId) };
  }

  async points(vmId: string): Promise<readonly RecoveryPoint[]> {
    return this.#vm(vmId).points.map((kept) => kept.point);
  }

  async blockHashes(request: BlockHashRequest): Promise<Uint8Array> {
    checkHashRequest(request);
    const kept = this.#vm(request.vmId);
    requireGeneration(kept, request.generation);
    const isSession = kept.session?.sessionId === request.pointId;
    const head = kept.points.at(-1);
    if (!isSession && head?.point.pointId !== request.pointId) {
      throw refusal("PARENT_MISMATCH", "hash blocks", "the point is not the replica's head");
    }
    const diskId = request.diskId ?? kept.vm.disks[request.diskIndex]?.diskId;
    if (diskId === undefined)
      throw refusal("INVALID_ARGUMENT", "hash blocks", "there is no such disk");
    const contents = isSession
      ? contentWith(kept, kept.vm.disks, kept.session?.segments ?? [])
      : head?.contents;
    const content = contents?.get(diskId);
    if (content === undefined) return hashesOfNothing(request);
    const hashes = hashContent(content, request.extents, request.blockBytes);
    return blankPastEnd(hashes, request, content.byteLength);
  }

  async stagedDeltaIds(vmId: string): Promise<readonly string[]> {
    return [...(this.#vm(vmId).session?.deltaIds ?? [])];
  }

  /** What a recovery point holds of a disk: one of its own, by number, or any by its id. */
  contentOf(vmId: string, pointId: string, disk: number | string): Uint8Array {
    const found = this.#vm(vmId).points.find(({ point }) => point.pointId === pointId);
    const diskId = typeof disk === "string" ? disk : found?.of.disks[disk]?.diskId;
    const content = found?.contents.get(diskId ?? "");
    if (content === undefined) throw refusal("NOT_FOUND", "read a point", "it is not there");
    return content;
  }

  /** The disks that a recovery point was cut of. */
  disksOf(vmId: string, pointId: string): KeptPoint["of"] {
    const found = this.#vm(vmId).points.find(({ point }) => point.pointId === pointId);
    if (found === undefined) throw refusal("NOT_FOUND", "read a point", "it is not there");
    return found.of;
  }

  /** As retention does: only this point and later ones are kept. */
  forgetBefore(vmId: string, pointId: string): void {
    const { points } = this.#vm(vmId);
    const index = points.findIndex(({ point }) => point.pointId === pointId);
    if (index > 0) points.splice(0, index);
  }

  /** The head with the staging session over it: what a closing point without changes would hold. */
  stagedContentOf(vmId: string, disk: DiskGeometry): Uint8Array | undefined {
    const kept = this.#vm(vmId);
    return contentWith(kept, [disk], kept.session?.segments ?? []).get(disk.diskId);
  }

  /** As after a power loss: what was on its way is gone, what was acknowledged is there. */
  crash(): void {
    this.#slots.clear();
    for (const kept of this.#vms.values()) {
      if (kept.open !== null) kept.open.announced = false;
    }
  }

  /** This host was the VM's primary once, and its disks stand so. */
  hadBefore(vmId: string, former: FormerDisks): void {
    this.#former.set(vmId, former);
  }

  /** A fault: the staging session is lost, as when an operator deletes it. */
  loseStaging(vmId: string): void {
    this.#vm(vmId).session = null;
  }

  /** A promotion: requests of other generations are FENCED from now on. */
  setGeneration(vmId: string, generation: Generation): void {
    const kept = this.#vm(vmId);
    kept.lineage = [firstEntry(generation)];
    kept.open = null;
  }

  /** A fault: an older state of the replica came back from a backup. */
  rollBack(vmId: string, pointCount: number): void {
    const kept = this.#vm(vmId);
    kept.points.splice(pointCount);
    kept.open = null;
    kept.session = null;
  }

  protected requireFork({ vmId, to }: Succession): void {
    requireFork(this.#vm(vmId), to);
  }

  /** Of the generation that is over. */
  protected dropUnfinished(vmId: string): void {
    const kept = this.#vm(vmId);
    kept.open = null;
    kept.session = null;
  }

  #vm(vmId: string): KeptVm {
    const kept = this.#vms.get(vmId);
    if (kept === undefined)
      throw refusal("NOT_FOUND", "use the VM", "the replica does not know it");
    return kept;
  }

  #openDeltaOf(deltaId: string): readonly [KeptVm, OpenDelta] {
    for (const kept of this.#vms.values()) {
      const { open } = kept;
      if (open?.announced && open.header.deltaId === deltaId) return [kept, open];
    }
    throw refusal("NOT_FOUND", "receive a segment", "its delta is not open");
  }
}

function newVm(vm: ReplicatedVm, generation: Generation): KeptVm {
  return {
    vm: structuredClone(vm),
    lineage: [firstEntry(generation)],
    isPromotedHere: false,
    points: [],
    session: null,
    open: null,
    extension: null,
    returned: null,
    attempts: new Map(),
  };
}

function statusOf(kept: KeptVm): ReplicaVmStatus {
  return {
    vm: kept.vm,
    generation: presentEntry(kept.lineage).generation,
    lineage: kept.lineage,
    head: kept.points.at(-1)?.point ?? null,
    pointCount: kept.points.length,
    stagingSessionId: kept.session?.sessionId ?? null,
    storedBytes: kept.points.reduce((sum, { point }) => sum + point.changedBytes, 0),
  };
}

function refusal(
  code: ConstructorParameters<typeof TidemarkError>[0],
  deed: string,
  reason: string,
): TidemarkError {
  return new TidemarkError(code, `Cannot ${deed}: because ${reason}.`);
}

function requireGeneration(kept: KeptVm, generation: Generation): void {
  if (!sameGeneration(presentEntry(kept.lineage).generation, generation)) throw fenced(kept);
}

function fenced({ lineage }: KeptVm): TidemarkError {
  const { number } = presentEntry(lineage).generation;
  return refusal("FENCED", "write to the VM", `the replica is at generation ${number}`);
}

function requireFork(kept: KeptVm, { forkPointId, cause }: LineageEntry): void {
  const { points, isPromotedHere } = kept;
  if (cause === "taken-over" && isPromotedHere)
    throw refusal("CONFLICT", "take the replica over", "the VM was failed over to its host");
  const headId = points.at(-1)?.point.pointId ?? null;
  const isThere = forkPointId === null || points.some(({ point }) => point.pointId === forkPointId);
  const mustBeHead = cause === "planned-failover" || cause === "taken-over";
  if (mustBeHead ? headId === forkPointId : isThere) return;
  throw refusal("PARENT_MISMATCH", "hand the VM over", "its point is not where it is to go on");
}

function requireOpen(kept: KeptVm, deltaId: string, attempt: number): OpenDelta {
  const { open } = kept;
  const fits =
    open?.announced && open.header.deltaId === deltaId && open.header.attempt === attempt;
  if (fits && open !== null) return open;
  throw refusal("NOT_FOUND", "use the delta", `attempt ${attempt} of it is not open`);
}

/** What its commit announces; null: nothing. */
function unannounced(kept: KeptVm, { header, deltaId, attempt }: CommitRequest): OpenDelta | null {
  if (header === undefined) return null;
  const isThis = header.deltaId === deltaId && header.attempt === attempt;
  if (!isThis || header.segmentCount > 0 || header.stagingSessionId !== null)
    throw refusal("INVALID_ARGUMENT", "commit the delta", "it has to be announced");
  checkAttempt(kept, header);
  return { header, announced: true, arrived: new Map() };
}

function refuseTwins(disks: Pick<ReplicatedVm, "disks" | "excludedDisks">): void {
  if (haveTwins(disks)) throw refusal("INVALID_ARGUMENT", "take the disks", "two of them are one");
}

function checkHeader(kept: KeptVm, header: DeltaHeader): void {
  refuseTwins(header);
  const version: number = header.formatVersion;
  if (version !== DELTA_FORMAT_VERSION) {
    throw refusal("VERSION_UNKNOWN", "take the delta", `its format is ${version}`);
  }
  requireGeneration(kept, header.generation);
  if (!mayBecome(kept.vm.disks, header.disks)) {
    throw refusal("CONFLICT", "take the delta", "it is for other disks");
  }
  if (header.kind === "staging" && header.stagingSessionId === null) {
    throw refusal("INVALID_ARGUMENT", "take the delta", "it names no staging session");
  }
  const headId = kept.points.at(-1)?.point.pointId ?? null;
  if (header.parentPointId !== headId) {
    throw refusal("PARENT_MISMATCH", "take the delta", `the replica's head is ${headId}`);
  }
  const sessionId = kept.session?.sessionId ?? null;
  if (header.stagingSessionId !== null && header.stagingSessionId !== sessionId) {
    throw refusal("STAGING_LOST", "take the delta", "its staging session is gone");
  }
}

function checkAttempt(kept: KeptVm, header: DeltaHeader): void {
  const highest = kept.attempts.get(header.deltaId) ?? 0;
  const repeated = kept.open?.header.deltaId === header.deltaId && header.attempt === highest;
  if (header.attempt > highest || repeated) return;
  throw refusal("CONFLICT", "open the delta", "a later attempt of it was seen, or its end");
}

function bySegmentIndex(left: ArrivedSegment, right: ArrivedSegment): number {
  return left.receipt.segmentIndex - right.receipt.segmentIndex;
}

/** The answer to a commit that was answered before; undefined when it was not. */
function repeatedCommit(kept: KeptVm, request: CommitRequest): RecoveryPoint | null | undefined {
  const head = kept.points.at(-1)?.point;
  if (head?.pointId === request.deltaId) {
    if (head.digest === request.digest) return head;
    throw refusal("CORRUPT", "commit the delta", "it is committed with another digest");
  }
  const { deltaId, digest } = kept.extension ?? {};
  if (head !== undefined && deltaId === request.deltaId && digest === request.digest) return head;
  return kept.session?.deltaIds.has(request.deltaId) ? null : undefined;
}

function intoSession(kept: KeptVm, header: DeltaHeader, segments: ArrivedSegment[]): null {
  kept.session?.deltaIds.add(header.deltaId);
  kept.session?.segments.push(...segments);
  return null;
}

function intoPoint(
  kept: KeptVm,
  header: DeltaHeader,
  segments: readonly ArrivedSegment[],
  digest: string,
): RecoveryPoint {
  const head = kept.points.at(-1);
  const isEmpty = segments.length === 0 && header.stagingSessionId === null;
  const isSameCut = head !== undefined && areSameCutDisks(cutDisksOf(head.of), cutDisksOf(header));
  if (head !== undefined && isEmpty && isSameCut) {
    kept.extension = { deltaId: header.deltaId, digest };
    head.point = extendedPoint(head.point, header.cut);
    return head.point;
  }
  const staged = header.stagingSessionId === null ? [] : (kept.session?.segments ?? []);
  const added = [...staged, ...segments];
  const point = pointOfDelta(header, {
    sequence: (head?.point.sequence ?? 0) + 1,
    digest,
    changedBytes: added.reduce((sum, { receipt: r }) => sum + r.dataBytes + r.zeroBytes, 0),
  });
  const { disks, excludedDisks } = header;
  kept.points.push({
    point,
    of: { disks, excludedDisks },
    contents: contentWith(kept, disks, added),
  });
  kept.session = null;
  return point;
}

function resized(content: Uint8Array, sizeBytes: number): Uint8Array {
  const copy = new Uint8Array(sizeBytes);
  copy.set(content.subarray(0, sizeBytes));
  return copy;
}

/** A disk that the head does not have begins with zeroes, whatever older points hold of it. */
function contentWith(
  kept: KeptVm,
  disks: readonly DiskGeometry[],
  added: readonly ArrivedSegment[],
): Map<string, Uint8Array> {
  const head = kept.points.at(-1)?.contents;
  const contents = new Map(
    disks.map(({ diskId, sizeBytes }) => [
      diskId,
      resized(head?.get(diskId) ?? new Uint8Array(0), sizeBytes),
    ]),
  );
  for (const { segment, diskId } of added) {
    for (const { offsetBytes, lengthBytes, content } of segment.extents) {
      if (content === null) contents.get(diskId)?.fill(0, offsetBytes, offsetBytes + lengthBytes);
      else overwrite(contents.get(diskId), content, offsetBytes);
    }
  }
  return contents;
}

/** What was staged of a larger disk ends with the disk. */
function overwrite(disk: Uint8Array | undefined, content: Uint8Array, offsetBytes: number): void {
  if (disk === undefined || offsetBytes >= disk.length) return;
  disk.set(content.subarray(0, disk.length - offsetBytes), offsetBytes);
}
