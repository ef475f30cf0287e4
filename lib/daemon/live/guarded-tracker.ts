import { toTidemarkError } from "../../model/errors.js";
import type { DiskGeometry } from "../../model/disk.js";
import type { DiskMarks } from "../../model/disk-marks.js";
import type { ExtentList } from "../../model/block-hashes.js";
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
} from "../../model/vm-tracker.js";
import { TrackedVm } from "../../tracking/tracked-vm.js";
import type { LiveVm } from "./live-vm.js";

/**
 * The tracker of a VM whose guest may come to write past it: then no cut is taken or kept, and
 * nothing is taken for equal, until it goes by its filters again.
 */
export class GuardedTracker implements VmTracker {
  readonly tracker: TrackedVm;
  readonly #find: () => LiveVm;

  /** `find` throws when nobody attends the VM. */
  constructor(tracker: TrackedVm, find: () => LiveVm) {
    this.tracker = tracker;
    this.#find = find;
  }

  /** CutTogether of VMs that are tracked here, guarded or not. */
  static async checkpointTogether(
    members: readonly CutMember[],
  ): Promise<readonly TargetChanges[]> {
    const checks = members.flatMap(({ tracker }) =>
      tracker instanceof GuardedTracker ? [tracker.#find().requireTracked()] : [],
    );
    const bare = members.map(({ tracker, ...rest }) => ({
      ...rest,
      tracker: tracker instanceof GuardedTracker ? tracker.tracker : tracker,
    }));
    const cuts = await TrackedVm.checkpointTogether(bare);
    return keptIf(cuts, () => Promise.all(checks.map(({ isTracked }) => isTracked())));
  }

  get disks(): readonly DiskGeometry[] {
    return this.tracker.disks;
  }

  hasTarget(targetId: string): Promise<boolean> {
    return this.tracker.hasTarget(targetId);
  }

  addTarget(targetId: string, start?: AddedTarget, diskIds?: readonly string[]): Promise<void> {
    return this.tracker.addTarget(targetId, start, diskIds);
  }

  removeTarget(targetId: string, diskIds?: readonly string[]): Promise<void> {
    return this.tracker.removeTarget(targetId, diskIds);
  }

  markAllocated(targetId: string): Promise<number> {
    return this.tracker.markAllocated(targetId);
  }

  async compareSuspects(
    targetId: string,
    ask: AskHashes,
    options: { readonly limitBytes: number; readonly signal?: AbortSignal },
  ): Promise<ComparisonPass> {
    this.#find().requireTracked();
    return this.tracker.compareSuspects(targetId, ask, options);
  }

  async compareContent(
    targetId: string,
    diskIndex: number,
    ask: AskHashes,
    range: ContentRange,
  ): Promise<ContentPass> {
    const { isTracked } = this.#find().requireTracked();
    const pass = await this.tracker.compareContent(targetId, diskIndex, ask, range);
    await isTracked();
    return pass;
  }

  markPending(targetId: string, diskIndex: number, extents: ExtentList): Promise<void> {
    return this.tracker.markPending(targetId, diskIndex, extents);
  }

  readMarks(targetId: string): Promise<readonly DiskMarks[]> {
    return this.tracker.readMarks(targetId);
  }

  addMarks(targetId: string, marks: readonly DiskMarks[]): Promise<void> {
    return this.tracker.addMarks(targetId, marks);
  }

  async checkpoint(targetId: string, options?: CheckpointOptions): Promise<TargetChanges> {
    return this.#guarded(() => this.tracker.checkpoint(targetId, options));
  }

  async drain(targetId: string, options?: CheckpointOptions): Promise<TargetChanges> {
    return this.#guarded(() => this.tracker.drain(targetId, options));
  }

  unstage(targetId: string): Promise<void> {
    return this.tracker.unstage(targetId);
  }

  commitInFlight(targetId: string): Promise<void> {
    return this.tracker.commitInFlight(targetId);
  }

  async progress(targetId: string): Promise<TargetProgress> {
    const progress = await this.tracker.progress(targetId);
    const reason = this.#untrackedReason();
    return reason === null ? progress : { ...progress, untrackedReason: reason };
  }

  #untrackedReason(): string | null {
    try {
      return this.#find().failure?.message ?? null;
    } catch (thrown) {
      return toTidemarkError(thrown).message;
    }
  }

  async #guarded(take: () => Promise<TargetChanges>): Promise<TargetChanges> {
    const { isTracked } = this.#find().requireTracked();
    const changes = await take();
    await keptIf([changes], isTracked);
    return changes;
  }
}

async function keptIf(
  cuts: readonly TargetChanges[],
  check: () => Promise<unknown>,
): Promise<readonly TargetChanges[]> {
  try {
    await check();
    return cuts;
  } catch (thrown) {
    for (const cut of cuts) await cut.giveBack();
    throw thrown;
  }
}
