/**
 * The tracked disks of a VM in memory: the reference for the rules of VmTracker.
 *
 * Representation: a disk is one array of bytes; a map is one byte a block and
 * disk. A checkpoint freezes its blocks by remembering which are not copied yet:
 * the first write to such a block copies it aside (copy-before-write). Checkpoint
 * and scan cost O(blocks); meant for tests and small disks.
 */
import { compareBlocks, type ExtentList, hashContent, lengthOf } from "./block-hashes.js";
import type { Cut } from "./delta.js";
import type { DiskGeometry } from "./disk.js";
import { TidemarkError } from "./errors.js";
import { at, type BlockMap, clearAll, mergeAll, moveAll } from "./memory-block-map.js";
import { MemoryCapture } from "./memory-capture.js";
import { type EncodeSegment, MemoryChanges, type MemoryTarget } from "./memory-changes.js";
import { planSegments } from "./memory-segment-plan.js";
import type { SuspicionCause } from "./suspicion.js";
import type {
  AddedTarget,
  AskHashes,
  CheckpointOptions,
  ComparisonPass,
  CutMember,
  TargetChanges,
  TargetProgress,
  VmTracker,
} from "./vm-tracker.js";

export interface MemoryTrackerOptions {
  readonly disks: readonly DiskGeometry[];
  readonly encode: EncodeSegment;
  /** What the disks hold when tracking begins, unmarked. Default: zeroes. */
  readonly contents?: readonly Uint8Array[];
  readonly nowMs?: () => number;
  /** A capture that has to copy more than this breaks. */
  readonly captureBudgetBytes?: number;
}

const DEFAULT_SEGMENT_BYTES = 8 * 1024 * 1024;

export class MemoryVmTracker implements VmTracker {
  readonly disks: readonly DiskGeometry[];
  readonly #options: MemoryTrackerOptions;
  readonly #contents: Uint8Array[];
  readonly #targets = new Map<string, MemoryTarget>();
  #live: BlockMap;
  #cutSequence = 0;

  constructor(options: MemoryTrackerOptions) {
    this.#options = options;
    this.disks = options.disks;
    this.#contents = options.disks.map((disk, diskIndex) => {
      const content = new Uint8Array(disk.sizeBytes);
      content.set(options.contents?.[diskIndex] ?? []);
      return content;
    });
    this.#live = this.#newMap();
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
    return this.#targets.has(targetId);
  }

  async addTarget(targetId: string, start: AddedTarget = "nothing"): Promise<void> {
    if (this.#targets.has(targetId)) return;
    this.#targets.set(targetId, {
      pending: this.#newMap(),
      inFlight: this.#newMap(),
      staged: this.#newMap(),
      suspect: this.#newMap(),
      causes: new Set(),
      suspicionCount: 0,
      changes: null,
    });
    if (start === "suspect") {
      this.disks.forEach((disk, index) => this.suspect(index, 0, disk.sizeBytes, "bitmap lost"));
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
    this.#unsuspectStaged(target);
    for (const [diskIndex, { granularityBytes }] of this.disks.entries()) {
      const extents = this.#extentsOf(target.suspect, diskIndex, options.limitBytes);
      if (extents.length === 0) continue;
      const { equal, different } = await compareBlocks(
        extents,
        granularityBytes,
        async (list, blockBytes) => hashContent(this.contentOf(diskIndex), list, blockBytes),
        (list, blockBytes) => ask(diskIndex, list, blockBytes),
      );
      options.signal?.throwIfAborted();
      const isOvertaken = target.suspicionCount !== suspicionCount;
      if (!isOvertaken) {
        this.#move(different, diskIndex, target.suspect, target.pending);
        this.#move(equal, diskIndex, target.suspect, null);
        if (target.suspect.every((map) => map.every((mark) => mark === 0))) target.causes.clear();
      }
      const differingBytes = isOvertaken ? 0 : lengthOf(different);
      return { comparedBytes: lengthOf(extents), differingBytes, isOvertaken };
    }
    return { comparedBytes: 0, differingBytes: 0, isOvertaken: false };
  }

  async removeTarget(targetId: string): Promise<void> {
    this.#targets.get(targetId)?.changes?.invalidate();
    this.#targets.delete(targetId);
  }

  async markAllocated(targetId: string): Promise<number> {
    const { pending } = this.#target(targetId);
    let markedBytes = 0;
    this.#eachBlock((diskIndex, block, offsetBytes, lengthBytes) => {
      const content = this.contentOf(diskIndex).subarray(offsetBytes, offsetBytes + lengthBytes);
      if (content.every((byte) => byte === 0)) return;
      at(pending, diskIndex)[block] = 1;
      markedBytes += lengthBytes;
    });
    return markedBytes;
  }

  async checkpoint(targetId: string, options: CheckpointOptions = {}): Promise<TargetChanges> {
    return this.#cut(targetId, options, true);
  }

  async drain(targetId: string, options: CheckpointOptions = {}): Promise<TargetChanges> {
    return this.#cut(targetId, options, false);
  }

  async unstage(targetId: string): Promise<void> {
    const target = this.#target(targetId);
    moveAll(target.staged, target.pending);
  }

  async commitInFlight(targetId: string): Promise<void> {
    const target = this.#target(targetId);
    target.changes?.invalidate();
    target.changes = null;
    clearAll(target.inFlight);
    clearAll(target.staged);
  }

  async progress(targetId: string): Promise<TargetProgress> {
    const { pending, inFlight, staged, suspect, causes } = this.#target(targetId);
    const sums = { pendingBytes: 0, inFlightBytes: 0, stagedBytes: 0, suspectBytes: 0 };
    this.#eachBlock((diskIndex, block, _, lengthBytes) => {
      const ahead = at(pending, diskIndex)[block] || at(this.#live, diskIndex)[block];
      if (ahead) sums.pendingBytes += lengthBytes;
      if (at(inFlight, diskIndex)[block]) sums.inFlightBytes += lengthBytes;
      if (at(staged, diskIndex)[block]) sums.stagedBytes += lengthBytes;
      if (at(suspect, diskIndex)[block]) sums.suspectBytes += lengthBytes;
    });
    return { ...sums, suspicionCauses: [...causes] };
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
    this.#live = this.#newMap();
  }

  #cut(targetId: string, options: CheckpointOptions, frozen: boolean): TargetChanges {
    options.signal?.throwIfAborted();
    const target = this.#target(targetId);
    if (target.changes !== null) {
      throw new TidemarkError("CONFLICT", "Cannot take a checkpoint: because one is under way.");
    }
    moveAll(target.suspect, target.pending);
    target.causes.clear();
    const { suspicionCount } = target;
    this.#flip();
    this.#takeInFlight(target, frozen ? Number.POSITIVE_INFINITY : options.limitBytes);
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
    target.changes = new MemoryChanges(this.#newCut(options), plans, capture, {
      encode: this.#options.encode,
      contents: this.#contents,
      isSuspect: () => target.suspicionCount !== suspicionCount,
      end: (move) => {
        target.changes = null;
        move(target);
      },
    });
    return target.changes;
  }

  #unsuspectStaged(target: MemoryTarget): void {
    target.staged.forEach((blocks, diskIndex) => {
      blocks.forEach((mark, block) => {
        if (!mark || !at(target.suspect, diskIndex)[block]) return;
        at(target.pending, diskIndex)[block] = 1;
        at(target.suspect, diskIndex)[block] = 0;
      });
    });
  }

  #extentsOf(map: BlockMap, onlyDisk: number, limitBytes: number): ExtentList {
    const extents: number[] = [];
    this.#eachBlock((diskIndex, block, offsetBytes, lengthBytes) => {
      if (diskIndex !== onlyDisk || !at(map, diskIndex)[block]) return;
      if (lengthOf(extents) < limitBytes) extents.push(offsetBytes, lengthBytes);
    });
    return extents;
  }

  #move(extents: ExtentList, onlyDisk: number, from: BlockMap, into: BlockMap | null): void {
    for (let index = 0; index + 1 < extents.length; index += 2) {
      const [begin = 0, length = 0] = [extents[index], extents[index + 1]];
      this.#eachBlock((diskIndex, block, offsetBytes) => {
        if (diskIndex !== onlyDisk || offsetBytes < begin || offsetBytes >= begin + length) return;
        if (into !== null) at(into, diskIndex)[block] = 1;
        at(from, diskIndex)[block] = 0;
      });
    }
  }

  #newCut({ group }: CheckpointOptions): Cut {
    return {
      sequence: this.#cutSequence,
      takenAtMs: (this.#options.nowMs ?? Date.now)(),
      pauseNs: 1000,
      requestsInFlight: 0,
      consistency: "crash",
      ...(group === undefined ? {} : { group }),
    };
  }

  #flip(): void {
    for (const target of this.#targets.values()) mergeAll(this.#live, target.pending);
    this.#live = this.#newMap();
  }

  #takeInFlight(target: MemoryTarget, limitBytes = Number.POSITIVE_INFINITY): void {
    let takenBytes = 0;
    this.#eachBlock((diskIndex, block, _, lengthBytes) => {
      if (!at(target.pending, diskIndex)[block] || takenBytes >= limitBytes) return;
      at(target.pending, diskIndex)[block] = 0;
      at(target.inFlight, diskIndex)[block] = 1;
      takenBytes += lengthBytes;
    });
  }

  #eachBlock(
    visit: (diskIndex: number, block: number, offsetBytes: number, lengthBytes: number) => void,
  ): void {
    this.disks.forEach(({ sizeBytes, granularityBytes }, diskIndex) => {
      for (let offset = 0, block = 0; offset < sizeBytes; offset += granularityBytes, block += 1) {
        visit(diskIndex, block, offset, Math.min(granularityBytes, sizeBytes - offset));
      }
    });
  }

  #newMap(): BlockMap {
    return this.disks.map((d) => new Uint8Array(Math.ceil(d.sizeBytes / d.granularityBytes)));
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

/** CutTogether in memory: no write comes between, because each cut is made before the first await. */
export async function cutTogetherInMemory(
  members: readonly CutMember[],
): Promise<readonly TargetChanges[]> {
  const cuts = await Promise.allSettled(
    members.map(({ tracker, targetId, options }) => tracker.checkpoint(targetId, options)),
  );
  const taken = cuts.flatMap((cut) => (cut.status === "fulfilled" ? [cut.value] : []));
  const failed = cuts.find((cut) => cut.status === "rejected");
  if (failed === undefined) return taken;
  for (const changes of taken) await changes.giveBack();
  throw failed.reason;
}
