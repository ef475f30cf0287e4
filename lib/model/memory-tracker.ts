/**
 * The tracked disks of a VM in memory: the reference for the rules of VmTracker.
 *
 * Representation: a disk is one array of bytes; a map is one byte a block and
 * disk. A checkpoint freezes its blocks by remembering which are not copied yet:
 * the first write to such a block copies it aside (copy-before-write). Checkpoint
 * and scan cost O(blocks); meant for tests and small disks.
 */
import { compareBlocks, type ExtentList, hashContent, lengthOf } from "./block-hashes.js";
import type { DiskGeometry } from "./disk.js";
import type { DiskMarks } from "./disk-marks.js";
import { subtract, unionOf } from "./extent-list.js";
import { TidemarkError } from "./errors.js";
import { at, type BlockMap, clearAll, mergeAll, moveAll, sized } from "./memory-block-map.js";
import { eachBlockOf, extentsOf, markContent } from "./memory-blocks.js";
import { MemoryCapture } from "./memory-capture.js";
import { MemoryChanges } from "./memory-changes.js";
import { memoryCut } from "./memory-cut.js";
import { MemoryContentFilter } from "./memory-known-content.js";
import { planSegments } from "./memory-segment-plan.js";
import {
  blockCountOf,
  mapsOf,
  marksOfTarget,
  markTarget,
  forgetSuspects,
  type MemoryTarget,
  newBlockMap,
  newMemoryTarget,
  progressOf,
  takeInFlight,
  unsuspectStaged,
} from "./memory-target.js";
import type { MemoryTrackerOptions } from "./memory-tracker-options.js";
import type { SuspicionCause } from "./suspicion.js";
import type {
  AddedTarget,
  AskHashes,
  CheckpointOptions,
  ComparisonPass,
  ContentPass,
  ContentRange,
  TargetChanges,
  TargetProgress,
  VmTracker,
} from "./vm-tracker.js";

const DEFAULT_SEGMENT_BYTES = 8 * 1024 * 1024;

export class MemoryVmTracker implements VmTracker {
  readonly #options: MemoryTrackerOptions;
  #disks: readonly DiskGeometry[];
  readonly #contents: Uint8Array[];
  readonly #targets = new Map<string, MemoryTarget>();
  #live: BlockMap;
  #cutSequence = 0;

  constructor(options: MemoryTrackerOptions) {
    this.#options = options;
    this.#disks = [...options.disks];
    this.#contents = options.disks.map(({ sizeBytes }, diskIndex) =>
      sized(sizeBytes, options.contents?.[diskIndex] ?? []),
    );
    this.#live = newBlockMap(this.disks);
  }

  get disks(): readonly DiskGeometry[] {
    return this.#disks;
  }

  /** Another one of the VM, without any target. Not while a checkpoint is open. */
  addDisk(disk: DiskGeometry, content: ArrayLike<number> = []): void {
    this.#disks = [...this.#disks, disk];
    this.#contents.push(sized(disk.sizeBytes, content));
    for (const map of this.#maps()) map.push(new Uint8Array(blockCountOf(disk)));
  }

  /** The VM does not have it any more; answers what it holds. Not while a checkpoint is open. */
  removeDisk(diskId: string): Uint8Array {
    const diskIndex = this.#disks.findIndex((disk) => disk.diskId === diskId);
    this.#disks = this.#disks.filter((disk) => disk.diskId !== diskId);
    const [content = new Uint8Array()] = this.#contents.splice(diskIndex, 1);
    for (const map of this.#maps()) map.splice(diskIndex, 1);
    for (const { diskIds } of this.#targets.values()) diskIds.delete(diskId);
    return content;
  }

  /** What it grows by counts as changed; what lay past a new end is gone. Not while a checkpoint is open. */
  resizeDisk(diskIndex: number, sizeBytes: number): void {
    const former = at(this.disks, diskIndex);
    const blockCount = blockCountOf({ ...former, sizeBytes });
    this.#disks = this.#disks.with(diskIndex, { ...former, sizeBytes });
    this.#contents[diskIndex] = sized(sizeBytes, this.contentOf(diskIndex).subarray(0, sizeBytes));
    for (const map of this.#maps()) {
      map[diskIndex] = sized(blockCount, at(map, diskIndex).subarray(0, blockCount));
    }
    if (sizeBytes <= former.sizeBytes) return;
    at(this.#live, diskIndex).fill(1, Math.floor(former.sizeBytes / former.granularityBytes));
  }

  /** A guest's write: marked before it takes place, frozen blocks copied aside first. */
  write(diskIndex: number, offsetBytes: number, data: Uint8Array): void {
    const { granularityBytes, sizeBytes } = at(this.disks, diskIndex);
    if (offsetBytes < 0 || offsetBytes + data.length > sizeBytes) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        "Cannot write: because it is past the disk's end.",
      );
    }
    const first = Math.floor(offsetBytes / granularityBytes);
    const last = Math.floor((offsetBytes + data.length - 1) / granularityBytes);
    for (let block = first; block <= last; block += 1) {
      for (const { changes } of this.#targets.values())
        changes?.capture?.saveBlock(diskIndex, block);
      at(this.#live, diskIndex)[block] = 1;
    }
    at(this.#contents, diskIndex).set(data, offsetBytes);
  }

  /** What the guest reads; a view, not a copy. */
  contentOf(diskIndex: number): Uint8Array {
    return at(this.#contents, diskIndex);
  }

  async hasTarget(targetId: string): Promise<boolean> {
    const target = this.#targets.get(targetId);
    return target !== undefined && this.disks.every(({ diskId }) => target.diskIds.has(diskId));
  }

  async addTarget(
    targetId: string,
    start: AddedTarget = "nothing",
    diskIds: readonly string[] = this.disks.map(({ diskId }) => diskId),
  ): Promise<void> {
    const target = this.#targets.get(targetId) ?? newMemoryTarget(this.disks);
    this.#targets.set(targetId, target);
    for (const [diskIndex, { diskId, sizeBytes }] of this.disks.entries()) {
      if (!diskIds.includes(diskId) || target.diskIds.has(diskId)) continue;
      target.diskIds.add(diskId);
      target.known.forget(diskId);
      for (const map of mapsOf(target)) at(map, diskIndex).fill(0);
      if (start === "suspect") this.suspect(diskIndex, 0, sizeBytes, "bitmap lost");
      if (start === "allocated") this.#markAllocated(target, diskIndex);
    }
  }

  /** Somebody else may have changed the range: it is suspect for every target. Rounds out. */
  suspect(
    diskIndex: number,
    offsetBytes: number,
    lengthBytes: number,
    cause: SuspicionCause,
  ): void {
    const { granularityBytes } = at(this.disks, diskIndex);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / granularityBytes);
    for (const target of this.#targets.values()) {
      if (!target.diskIds.has(at(this.disks, diskIndex).diskId)) continue;
      target.suspicionCount += 1;
      target.causes.add(cause);
      at(target.suspect, diskIndex).fill(1, Math.floor(offsetBytes / granularityBytes), last + 1);
    }
  }

  /** A write that no filter sees. */
  writeUnseen(diskIndex: number, offsetBytes: number, data: Uint8Array): void {
    at(this.#contents, diskIndex).set(data, offsetBytes);
  }

  async compareSuspects(
    targetId: string,
    ask: AskHashes,
    options: { readonly limitBytes: number; readonly signal?: AbortSignal },
  ): Promise<ComparisonPass> {
    const target = this.#target(targetId);
    if (target.changes !== null) {
      throw new TidemarkError("CONFLICT", "Cannot compare: because a checkpoint is open.");
    }
    const { suspicionCount } = target;
    forgetSuspects(target, this.disks);
    unsuspectStaged(target);
    for (const [diskIndex, disk] of this.disks.entries()) {
      const suspect = at(target.suspect, diskIndex);
      const pending = at(target.pending, diskIndex);
      const extents = extentsOf(suspect, disk, options.limitBytes);
      if (extents.length === 0) continue;
      const { equal, different } = await this.#compare(diskIndex, extents, ask);
      options.signal?.throwIfAborted();
      const isOvertaken = target.suspicionCount !== suspicionCount;
      if (!isOvertaken) {
        eachBlockOf(different, disk, (block) => (pending[block] = 1));
        eachBlockOf([...equal, ...different], disk, (block) => (suspect[block] = 0));
        if (target.suspect.every((map) => map.every((mark) => mark === 0))) target.causes.clear();
      }
      const differingBytes = isOvertaken ? 0 : lengthOf(different);
      return { comparedBytes: lengthOf(extents), differingBytes, isOvertaken };
    }
    return { comparedBytes: 0, differingBytes: 0, isOvertaken: false };
  }

  async compareContent(
    targetId: string,
    diskIndex: number,
    ask: AskHashes,
    { fromBytes, limitBytes, signal }: ContentRange,
  ): Promise<ContentPass> {
    const disk = at(this.disks, diskIndex);
    const { granularityBytes, sizeBytes } = disk;
    const wholeBytes = Math.max(1, Math.floor(limitBytes / granularityBytes)) * granularityBytes;
    const lengthBytes = Math.min(wholeBytes, sizeBytes - fromBytes);
    const { different } = await this.#compare(diskIndex, [fromBytes, lengthBytes], ask);
    signal?.throwIfAborted();
    const target = this.#target(targetId);
    const maps = [this.#live, ...mapsOf(target)];
    const written = unionOf(...maps.map((map) => extentsOf(at(map, diskIndex), disk)));
    const differing = subtract(different, written);
    if (differing.length > 0) target.known.forget(disk.diskId);
    const writtenBytes = lengthOf(different) - lengthOf(differing);
    return { nextBytes: fromBytes + lengthBytes, lengthBytes, writtenBytes, differing };
  }

  async markPending(targetId: string, diskIndex: number, extents: ExtentList): Promise<void> {
    const target = this.#target(targetId);
    const pending = at(target.pending, diskIndex);
    target.known.forget(at(this.disks, diskIndex).diskId);
    eachBlockOf(extents, at(this.disks, diskIndex), (block) => (pending[block] = 1));
  }

  async readMarks(targetId: string): Promise<readonly DiskMarks[]> {
    return marksOfTarget(this.#target(targetId), this.#live, this.disks);
  }

  async addMarks(targetId: string, marks: readonly DiskMarks[]): Promise<void> {
    markTarget(this.#target(targetId), this.disks, marks);
  }

  async removeTarget(
    targetId: string,
    diskIds: readonly string[] = this.disks.map(({ diskId }) => diskId),
  ): Promise<void> {
    const target = this.#targets.get(targetId);
    for (const diskId of diskIds) {
      target?.diskIds.delete(diskId);
      target?.known.forget(diskId);
    }
    if (target === undefined || target.diskIds.size > 0) return;
    target.changes?.invalidate();
    this.#targets.delete(targetId);
  }

  async markAllocated(targetId: string): Promise<number> {
    const target = this.#wholeTarget(targetId);
    return this.disks.reduce((sum, _, index) => sum + this.#markAllocated(target, index), 0);
  }

  async checkpoint(targetId: string, options: CheckpointOptions = {}): Promise<TargetChanges> {
    return this.#cut(targetId, options, true);
  }

  async drain(targetId: string, options: CheckpointOptions = {}): Promise<TargetChanges> {
    return this.#cut(targetId, options, false);
  }

  async unstage(targetId: string): Promise<void> {
    const target = this.#wholeTarget(targetId);
    target.known.forgetAll();
    moveAll(target.staged, target.pending);
  }

  async commitInFlight(targetId: string): Promise<void> {
    const target = this.#wholeTarget(targetId);
    target.changes?.invalidate();
    target.changes = null;
    target.known.forgetAll();
    clearAll(target.inFlight);
    clearAll(target.staged);
  }

  async progress(targetId: string): Promise<TargetProgress> {
    return progressOf(this.#target(targetId), this.#live, this.disks);
  }

  /** Where a block is marked for a target. */
  marksOf(targetId: string, diskIndex: number, block: number) {
    const { pending, inFlight, staged, suspect } = this.#target(targetId);
    return {
      live: at(this.#live, diskIndex)[block] === 1,
      pending: at(pending, diskIndex)[block] === 1,
      inFlight: at(inFlight, diskIndex)[block] === 1,
      staged: at(staged, diskIndex)[block] === 1,
      suspect: at(suspect, diskIndex)[block] === 1,
    };
  }

  /** The process that held the disks died: captures are gone, pending takes up every other mark. */
  crash(): void {
    for (const target of this.#targets.values()) {
      target.changes?.invalidate();
      target.changes = null;
      moveAll(target.inFlight, target.pending);
      mergeAll(this.#live, target.pending);
    }
    this.#live = newBlockMap(this.disks);
  }

  #cut(targetId: string, options: CheckpointOptions, frozen: boolean): TargetChanges {
    options.signal?.throwIfAborted();
    const target = this.#wholeTarget(targetId);
    if (target.changes !== null) {
      throw new TidemarkError("CONFLICT", "Cannot take a checkpoint: because one is under way.");
    }
    forgetSuspects(target, this.disks);
    moveAll(target.suspect, target.pending);
    target.causes.clear();
    const { suspicionCount } = target;
    this.#flip();
    takeInFlight(target, this.disks, frozen ? Number.POSITIVE_INFINITY : options.limitBytes);
    const capture = frozen
      ? new MemoryCapture(
          this.#contents,
          target.inFlight,
          this.disks,
          this.#options.captureBudgetBytes ?? Number.POSITIVE_INFINITY,
        )
      : null;
    this.#cutSequence += 1;
    const plans = planSegments(
      this.disks,
      target.inFlight,
      options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
    );
    const cut = memoryCut(this.#cutSequence, (this.#options.nowMs ?? Date.now)(), options);
    const changes = new MemoryChanges(cut, plans, capture, {
      encode: this.#options.encode,
      contents: this.#contents,
      filter: this.#filter(target, options.unchangedSince),
      isSuspect: () => target.suspicionCount !== suspicionCount,
      end: (move) => {
        target.changes = null;
        move(target);
      },
    });
    target.changes = changes;
    return changes;
  }

  #flip(): void {
    for (const target of this.#targets.values()) mergeAll(this.#live, target.pending);
    this.#live = newBlockMap(this.disks);
  }

  #filter({ known }: MemoryTarget, since: string | null | undefined): MemoryContentFilter | null {
    if (since !== undefined) return new MemoryContentFilter(known, this.disks, since);
    known.forgetAll();
    return null;
  }

  /** Answers how much. */
  #markAllocated({ pending }: MemoryTarget, diskIndex: number): number {
    const disk = at(this.disks, diskIndex);
    return markContent(at(pending, diskIndex), disk, this.contentOf(diskIndex));
  }

  #compare(diskIndex: number, extents: ExtentList, ask: AskHashes) {
    return compareBlocks(
      extents,
      at(this.disks, diskIndex).granularityBytes,
      async (list, blockBytes) => hashContent(this.contentOf(diskIndex), list, blockBytes),
      (list, blockBytes) => ask(diskIndex, list, blockBytes),
    );
  }

  /** Of all disks. */
  #maps(): BlockMap[] {
    return [this.#live, ...[...this.#targets.values()].flatMap(mapsOf)];
  }

  /** That each disk has. */
  #wholeTarget(targetId: string): MemoryTarget {
    const target = this.#target(targetId);
    const lacking = this.disks.find(({ diskId }) => !target.diskIds.has(diskId));
    if (lacking === undefined) return target;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot use target ${targetId}: because disk ${lacking.name} does not have it.`,
    );
  }

  #target(targetId: string): MemoryTarget {
    const target = this.#targets.get(targetId);
    if (target !== undefined) return target;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot use target ${targetId}: because it was not added.`,
    );
  }
}
