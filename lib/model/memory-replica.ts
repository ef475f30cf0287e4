/**
 * A replica in memory, the reference for the rules of ReplicaEndpoint.
 *
 * Each recovery point keeps the whole content of every disk, so that tests
 * compare points with what was cut: a commit costs one copy of the VM. What a
 * real replica makes durable survives crash(); the rest does not.
 */
import { createHash, randomUUID } from "node:crypto";
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
} from "./block-hashes.js";
import type { Generation, ReplicatedVm } from "./disk.js";
import { sameOrResized } from "./disk-growth.js";
import { TidemarkError } from "./errors.js";
import { groupOfExtendedPoint, groupOfNewPoint } from "./group-points.js";
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
  ReplicaEndpoint,
  ReplicaVmStatus,
} from "./replica-endpoint.js";
import type { SegmentReceiver, SegmentRequest, SegmentSlot } from "./segment-receiver.js";

const RECORD_HEADER_BYTES = 24;
const SEGMENT_HEADER_BYTES = 40;

interface ArrivedSegment {
  readonly receipt: SegmentReceipt;
  readonly segment: DecodedSegment;
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
  readonly disks: readonly Uint8Array[];
}

interface KeptVm {
  vm: ReplicatedVm;
  generation: Generation;
  readonly points: KeptPoint[];
  session: StagingSession | null;
  open: OpenDelta | null;
  /** The empty delta that last extended the head. */
  extension: { readonly deltaId: string; readonly digest: string } | null;
  /** Highest attempt seen of each delta; Infinity once abandoned. */
  readonly attempts: Map<string, number>;
}

export class MemoryReplica implements ReplicaEndpoint, SegmentReceiver {
  readonly #decode: DecodeSegment;
  readonly #vms = new Map<string, KeptVm>();
  readonly #slots = new Map<string, SegmentRequest>();

  constructor(decode: DecodeSegment) {
    this.#decode = decode;
  }

  async enable(vm: ReplicatedVm, generation: Generation): Promise<ReplicaVmStatus> {
    const kept = this.#vms.get(vm.vmId);
    if (kept === undefined) {
      const fresh = newVm(vm, generation);
      this.#vms.set(vm.vmId, fresh);
      return statusOf(fresh);
    }
    if (kept.vm.name !== vm.name || !sameOrResized(kept.vm.disks, vm.disks)) {
      throw refusal("CONFLICT", "enable replication", "the replica holds another VM of this id");
    }
    requireGeneration(kept, generation);
    kept.vm = vm;
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
    kept.vm = { ...kept.vm, disks: header.disks };
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
    if (before === undefined) open.arrived.set(request.segmentIndex, { receipt, segment });
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
    const { header, arrived } = requireOpen(kept, request.deltaId, request.attempt);
    checkHeader(kept, header);
    const segments = [...arrived.values()].sort(bySegmentIndex);
    const digest = digestOf(segments.map(({ receipt }) => receipt));
    if (segments.length !== header.segmentCount || digest !== request.digest) {
      throw refusal("CORRUPT", "commit the delta", "its segments are not those of the digest");
    }
    kept.open = null;
    if (header.kind === "staging") return intoSession(kept, header, segments);
    return intoPoint(kept, header, segments, digest);
  }

  async abandon(vmId: string, deltaId: string): Promise<void> {
    const kept = this.#vm(vmId);
    kept.attempts.set(deltaId, Number.POSITIVE_INFINITY);
    if (kept.open?.header.deltaId === deltaId) kept.open = null;
  }

  async points(vmId: string): Promise<readonly RecoveryPoint[]> {
    return this.#vm(vmId).points.map((kept) => kept.point);
  }

  async blockHashes(request: BlockHashRequest): Promise<Uint8Array> {
    checkHashRequest(request);
    const kept = this.#vm(request.vmId);
    requireGeneration(kept, request.generation);
    const head = kept.points.at(-1);
    if (head?.point.pointId !== request.pointId) {
      throw refusal("PARENT_MISMATCH", "hash blocks", "the point is not the replica's head");
    }
    const content = head.disks[request.diskIndex];
    if (content === undefined)
      throw refusal("INVALID_ARGUMENT", "hash blocks", "there is no such disk");
    const hashes = hashContent(content, request.extents, request.blockBytes);
    return blankPastEnd(hashes, request, content.byteLength);
  }

  /** What a recovery point holds of a disk. */
  contentOf(vmId: string, pointId: string, diskIndex: number): Uint8Array {
    const found = this.#vm(vmId).points.find(({ point }) => point.pointId === pointId);
    const content = found?.disks[diskIndex];
    if (content === undefined) throw refusal("NOT_FOUND", "read a point", "it is not there");
    return content;
  }

  /** As retention does: only this point and later ones are kept. */
  forgetBefore(vmId: string, pointId: string): void {
    const { points } = this.#vm(vmId);
    const index = points.findIndex(({ point }) => point.pointId === pointId);
    if (index > 0) points.splice(0, index);
  }

  /** The head with the staging session over it: what a closing point without changes would hold. */
  stagedContentOf(vmId: string, diskIndex: number): Uint8Array {
    const kept = this.#vm(vmId);
    const content = contentWith(kept, kept.session?.segments ?? [])[diskIndex];
    if (content === undefined) throw refusal("NOT_FOUND", "read staging", "there is no such disk");
    return content;
  }

  /** As after a power loss: what was on its way is gone, what was acknowledged is there. */
  crash(): void {
    this.#slots.clear();
    for (const kept of this.#vms.values()) {
      if (kept.open !== null) kept.open.announced = false;
    }
  }

  /** A fault: the staging session is lost, as when an operator deletes it. */
  loseStaging(vmId: string): void {
    this.#vm(vmId).session = null;
  }

  /** A promotion: requests of other generations are FENCED from now on. */
  setGeneration(vmId: string, generation: Generation): void {
    const kept = this.#vm(vmId);
    kept.generation = generation;
    kept.open = null;
  }

  /** A fault: an older state of the replica came back from a backup. */
  rollBack(vmId: string, pointCount: number): void {
    const kept = this.#vm(vmId);
    kept.points.splice(pointCount);
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
    generation,
    points: [],
    session: null,
    open: null,
    extension: null,
    attempts: new Map(),
  };
}

function statusOf(kept: KeptVm): ReplicaVmStatus {
  return {
    vm: kept.vm,
    generation: kept.generation,
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
  const { number, id } = kept.generation;
  if (generation.number === number && generation.id === id) return;
  throw refusal("FENCED", "write to the VM", `the replica is at generation ${number}`);
}

function requireOpen(kept: KeptVm, deltaId: string, attempt: number): OpenDelta {
  const { open } = kept;
  const fits =
    open?.announced && open.header.deltaId === deltaId && open.header.attempt === attempt;
  if (fits && open !== null) return open;
  throw refusal("NOT_FOUND", "use the delta", `attempt ${attempt} of it is not open`);
}

function checkHeader(kept: KeptVm, header: DeltaHeader): void {
  const version: number = header.formatVersion;
  if (version !== DELTA_FORMAT_VERSION) {
    throw refusal("VERSION_UNKNOWN", "take the delta", `its format is ${version}`);
  }
  requireGeneration(kept, header.generation);
  if (!sameOrResized(kept.vm.disks, header.disks)) {
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

function digestOf(receipts: readonly SegmentReceipt[]): string {
  const hash = createHash("sha256");
  for (const receipt of receipts) hash.update(receipt.sha256, "hex");
  return hash.digest("hex");
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
  const isResized = header.disks.some(
    ({ sizeBytes }, index) => head?.disks[index]?.byteLength !== sizeBytes,
  );
  if (head !== undefined && isEmpty && !isResized) {
    kept.extension = { deltaId: header.deltaId, digest };
    const validUntilMs = Math.max(head.point.validUntilMs, header.cut.takenAtMs);
    head.point = { ...head.point, validUntilMs, ...groupOfExtendedPoint(head.point, header.cut) };
    return head.point;
  }
  const staged = header.stagingSessionId === null ? [] : (kept.session?.segments ?? []);
  const added = [...staged, ...segments];
  const point = pointOf(header, (head?.point.sequence ?? 0) + 1, added, digest);
  kept.points.push({ point, disks: contentWith(kept, added) });
  kept.session = null;
  return point;
}

function pointOf(
  header: DeltaHeader,
  sequence: number,
  added: readonly ArrivedSegment[],
  digest: string,
): RecoveryPoint {
  return {
    pointId: header.deltaId,
    sequence,
    parentPointId: header.parentPointId,
    generation: header.generation,
    takenAtMs: header.cut.takenAtMs,
    validUntilMs: header.cut.takenAtMs,
    cutSequence: header.cut.sequence,
    consistency: header.cut.consistency,
    digest,
    changedBytes: added.reduce((sum, { receipt: r }) => sum + r.dataBytes + r.zeroBytes, 0),
    ...groupOfNewPoint(header.cut),
  };
}

function resized(content: Uint8Array, sizeBytes: number): Uint8Array {
  const copy = new Uint8Array(sizeBytes);
  copy.set(content.subarray(0, sizeBytes));
  return copy;
}

function contentWith(kept: KeptVm, added: readonly ArrivedSegment[]): Uint8Array[] {
  const head = kept.points.at(-1)?.disks;
  const disks = kept.vm.disks.map((disk, diskIndex) =>
    resized(head?.[diskIndex] ?? new Uint8Array(0), disk.sizeBytes),
  );
  for (const { segment } of added) {
    const disk = disks[segment.diskIndex] ?? new Uint8Array(0);
    for (const { offsetBytes, lengthBytes, content } of segment.extents) {
      if (content === null) disk.fill(0, offsetBytes, offsetBytes + lengthBytes);
      else disk.set(content, offsetBytes);
    }
  }
  return disks;
}
