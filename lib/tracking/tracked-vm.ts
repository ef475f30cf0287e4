import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { DiskGeometry } from "../model/disk.js";
import type { ExtentList } from "../model/block-hashes.js";
import type { DiskMarks } from "../model/disk-marks.js";
import { type SuspicionCause, suspicionBitOf } from "../model/suspicion.js";
import type {
  AddedTarget,
  AskHashes,
  CheckpointOptions,
  ComparisonPass,
  ContentPass,
  ContentRange,
  CutMember,
  TargetChanges,
  TargetProgress,
  VmTracker,
} from "../model/vm-tracker.js";
import type { NativeTrackedDevice } from "./binding.js";
import {
  type Checkpoint,
  type CheckpointPart,
  takeCheckpoint,
  takeCheckpoints,
} from "./checkpoint.js";
import { compareContentOf } from "./compare-content.js";
import { compareSuspectsOf } from "./compare-suspects.js";
import { rethrown } from "./native-call.js";
import { readMarksOf } from "./read-marks.js";
import type { TrackedDisk } from "./tracked-disk.js";

export interface CaptureBudget {
  readonly memoryBytes: number;
  /** "" for none. */
  readonly spillPath: string;
  readonly spillBytes: number;
}

/** The tracked disks of one VM, for the engine. The disks stay the caller's to close. */
export class TrackedVm implements VmTracker {
  readonly #names: readonly string[];
  readonly #disks: readonly TrackedDisk[];
  readonly #budget: CaptureBudget;
  #sequence = 0;
  readonly #open = new Map<string, Checkpoint>();

  /** `names` are the disks' names within the VM. */
  constructor(disks: readonly TrackedDisk[], names: readonly string[], budget: CaptureBudget) {
    this.#disks = disks;
    this.#budget = budget;
    this.#names = names;
  }

  get disks(): readonly DiskGeometry[] {
    return this.#disks.map(({ diskId, sizeBytes, granularityBytes }, index) => ({
      diskId,
      name: this.#names[index] ?? `disk${index}`,
      sizeBytes,
      granularityBytes,
    }));
  }

  async hasTarget(targetId: string): Promise<boolean> {
    return this.#disks.every((disk) => disk.targets().some((one) => one.targetId === targetId));
  }

  async addTarget(
    targetId: string,
    start: AddedTarget = "nothing",
    diskIds?: readonly string[],
  ): Promise<void> {
    for (const disk of this.#of(diskIds)) await disk.addTarget(targetId, start);
  }

  async compareSuspects(
    targetId: string,
    ask: AskHashes,
    options: { readonly limitBytes: number; readonly signal?: AbortSignal },
  ): Promise<ComparisonPass> {
    for (const [diskIndex, disk] of this.#disks.entries()) {
      const pass = await compareSuspectsOf(
        disk,
        targetId,
        (extents, blockBytes) => ask(diskIndex, extents, blockBytes),
        options,
      );
      if (pass.comparedBytes === 0) continue;
      await disk.notes.knownContentOf(targetId).forget();
      return pass;
    }
    return { comparedBytes: 0, differingBytes: 0, isOvertaken: false };
  }

  async compareContent(
    targetId: string,
    diskIndex: number,
    ask: AskHashes,
    range: ContentRange,
  ): Promise<ContentPass> {
    const theirs = (extents: ExtentList, blockBytes: number) => ask(diskIndex, extents, blockBytes);
    const disk = this.#disk(diskIndex);
    const pass = await compareContentOf(disk, targetId, theirs, range);
    if (pass.differing.length > 0) await disk.notes.knownContentOf(targetId).forget();
    return pass;
  }

  async markPending(targetId: string, diskIndex: number, extents: ExtentList): Promise<void> {
    const disk = this.#disk(diskIndex);
    const slot = disk.slotOf(targetId);
    // Whatever is known of the target: these travel.
    await disk.notes.knownContentOf(targetId).forget();
    for (let i = 0; i + 1 < extents.length; i += 2) {
      await rethrown(() => disk.native.markPending(slot, extents[i] ?? 0, extents[i + 1] ?? 0));
    }
  }

  async readMarks(targetId: string): Promise<readonly DiskMarks[]> {
    const { length } = this.#disks;
    return this.#disks.flatMap((disk) => readMarksOf(disk, targetId, length) ?? []);
  }

  async addMarks(targetId: string, marks: readonly DiskMarks[]): Promise<void> {
    for (const { diskId, changed, suspect } of marks) {
      const disk = this.#disk(this.#disks.findIndex((one) => one.diskId === diskId));
      const slot = disk.slotOf(targetId);
      await disk.notes.knownContentOf(targetId).forget();
      const [pending, doubtful] = [Float64Array.from(changed), Float64Array.from(suspect)];
      const causes = suspicionBitOf("replica differs");
      await rethrown(() => disk.native.addMarks(slot, pending, doubtful, causes));
    }
  }

  async removeTarget(targetId: string, diskIds?: readonly string[]): Promise<void> {
    for (const disk of this.#of(diskIds)) {
      const has = disk.targets().some((one) => one.targetId === targetId);
      if (has) await disk.removeTarget(targetId);
    }
  }

  async markAllocated(targetId: string): Promise<number> {
    const marked = await this.#each(targetId, (native, slot) => native.markAllocated(slot));
    return marked.reduce((sum, bytes) => sum + bytes, 0);
  }

  async checkpoint(targetId: string, options: CheckpointOptions = {}): Promise<TargetChanges> {
    return this.#take(targetId, options, true);
  }

  async drain(targetId: string, options: CheckpointOptions = {}): Promise<TargetChanges> {
    return this.#take(targetId, options, false);
  }

  async unstage(targetId: string): Promise<void> {
    await this.#forget(targetId);
    await this.#each(targetId, (native, slot) => native.unstage(slot));
  }

  async commitInFlight(targetId: string): Promise<void> {
    const open = this.#open.get(targetId);
    if (open !== undefined && !open.isEnded) return open.commit();
    await this.#forget(targetId);
    await this.#each(targetId, (native, slot) => native.commit(slot));
  }

  async progress(targetId: string): Promise<TargetProgress> {
    const sum = { pendingBytes: 0, inFlightBytes: 0, stagedBytes: 0, suspectBytes: 0 };
    const causes = new Set<SuspicionCause>();
    for (const disk of this.#disks) {
      const target = disk.targets().find((candidate) => candidate.targetId === targetId);
      // What is marked since the last checkpoint is pending too; blocks that are both count twice.
      const liveBytes = disk.native.liveBlocks() * disk.granularityBytes;
      sum.pendingBytes += Math.min((target?.pendingBytes ?? 0) + liveBytes, disk.sizeBytes);
      sum.inFlightBytes += target?.inFlightBytes ?? 0;
      sum.stagedBytes += target?.stagedBytes ?? 0;
      sum.suspectBytes += target?.suspectBytes ?? 0;
      for (const cause of target?.suspicionCauses ?? []) causes.add(cause);
    }
    return { ...sum, suspicionCauses: [...causes] };
  }

  /**
   * CutTogether of VMs that are all tracked here. The first one's capture budget and
   * spill file's name serve all of them.
   */
  static async checkpointTogether(members: readonly CutMember[]): Promise<Checkpoint[]> {
    const parts = members.map(({ tracker, targetId, options }) => {
      if (!(tracker instanceof TrackedVm)) {
        throw new TidemarkError("UNSUPPORTED", "Cannot cut VMs together: one is not tracked here.");
      }
      return { vm: tracker, part: tracker.#part(targetId, options, true) };
    });
    const checkpoints = await takeCheckpoints(parts.map(({ part }) => part));
    for (const [index, checkpoint] of checkpoints.entries()) {
      const owner = parts[index];
      if (owner !== undefined) owner.vm.#open.set(owner.part.target, checkpoint);
    }
    return checkpoints;
  }

  async #take(targetId: string, options: CheckpointOptions, withCaptures: boolean) {
    options.signal?.throwIfAborted();
    const { disks, options: native } = this.#part(targetId, options, withCaptures);
    const checkpoint = await takeCheckpoint(disks, targetId, native);
    this.#open.set(targetId, checkpoint);
    return checkpoint;
  }

  #part(targetId: string, options: CheckpointOptions, withCaptures: boolean): CheckpointPart {
    this.#sequence += 1;
    const { drainLimitMs, limitBytes, segmentBytes, group, unchangedSince } = options;
    return {
      disks: this.#disks,
      target: targetId,
      options: {
        withCaptures,
        sequence: this.#sequence,
        captureMemoryBytes: this.#budget.memoryBytes,
        spillPath: this.#budget.spillPath,
        spillBytes: this.#budget.spillBytes,
        ...(drainLimitMs === undefined ? {} : { drainLimitMs }),
        ...(limitBytes === undefined ? {} : { limitBytes }),
        ...(segmentBytes === undefined ? {} : { segmentBytes }),
        ...(group === undefined ? {} : { group }),
        ...(unchangedSince === undefined ? {} : { unchangedSince }),
      },
    };
  }

  async #forget(targetId: string): Promise<void> {
    for (const disk of this.#disks) await disk.notes.knownContentOf(targetId).forget();
  }

  #disk(diskIndex: number): TrackedDisk {
    const disk = this.#disks[diskIndex];
    if (disk !== undefined) return disk;
    throw new TidemarkError("NOT_FOUND", `Cannot find disk ${diskIndex} of the VM.`);
  }

  #of(diskIds: readonly string[] | undefined): readonly TrackedDisk[] {
    if (diskIds === undefined) return this.#disks;
    return this.#disks.filter(({ diskId }) => diskIds.includes(diskId));
  }

  async #each<T>(
    targetId: string,
    act: (native: NativeTrackedDevice, slot: number) => Promise<T>,
  ): Promise<T[]> {
    try {
      const results: T[] = [];
      for (const disk of this.#disks) {
        results.push(await act(disk.native, disk.slotOf(targetId)));
      }
      return results;
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }
}
