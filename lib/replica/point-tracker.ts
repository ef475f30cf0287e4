import type { ExtentList } from "../model/block-hashes.js";
import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
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
} from "../model/vm-tracker.js";
import { TrackedVm } from "../tracking/tracked-vm.js";
import { AsyncLock } from "./async-lock.js";
import { PointChanges } from "./point-changes.js";
import type { DiskMarks } from "../model/disk-marks.js";
import type { ReplicaTools } from "./replica-tools.js";
import {
  advanceTrackedPoints,
  openTrackedPoints,
  replicatedDisks,
  type TrackedPoints,
} from "./tracked-points.js";
import type { VmReplica } from "./vm-replica.js";

/** Nothing writes to a recovery point: nothing is ever saved for a capture. */
const NO_CAPTURES = { memoryBytes: 1 << 20, spillPath: "", spillBytes: 0 };

/**
 * A VM's replica as what another replica is made from: a cut is its newest recovery point,
 * pinned until the cut is ended, and what changed is what lies in the layers since the
 * one before. These are marked before retention may give that one up, for it is pinned.
 */
export class PointTracker implements VmTracker, AsyncDisposable {
  readonly #tools: ReplicaTools;
  readonly #replica: VmReplica;
  readonly #vm: TrackedVm;
  readonly #onOther: () => void;
  readonly #lock = new AsyncLock();
  #at: TrackedPoints;
  #openCuts = 0;
  #isClosed = false;

  private constructor(
    tools: ReplicaTools,
    replica: VmReplica,
    at: TrackedPoints,
    onOther: () => void,
  ) {
    this.#tools = tools;
    this.#replica = replica;
    this.#at = at;
    this.#onOther = onOther;
    const names = replicatedDisks(at.point).map(({ geometry }) => geometry.name);
    const disks = at.disks.map(({ tracked }) => tracked);
    this.#vm = new TrackedVm(disks, names, NO_CAPTURES);
  }

  /**
   * NOT_FOUND while the replica has no recovery point. `onOther`: the VM has other disks by
   * now, or went through a failover, and is to be opened anew.
   */
  static async open(
    tools: ReplicaTools,
    replica: VmReplica,
    onOther: () => void,
  ): Promise<PointTracker> {
    return new PointTracker(tools, replica, await openTrackedPoints(tools, replica), onOther);
  }

  get vmName(): string {
    return this.#replica.document.vm.name;
  }

  get disks(): readonly DiskGeometry[] {
    return this.#vm.disks;
  }

  get excludedDisks(): readonly DiskGeometry[] {
    const placeholders = this.#at.point.disks.filter(({ isPlaceholder }) => isPlaceholder);
    return placeholders.map(({ geometry }) => geometry);
  }

  /** Goes on to the newest point, unless a cut is open: what was marked of it needs the older one no more. */
  advance(): Promise<void> {
    return this.#lock.run(() => this.#advance());
  }

  hasTarget(targetId: string): Promise<boolean> {
    return this.#vm.hasTarget(targetId);
  }

  addTarget(targetId: string, start?: AddedTarget, diskIds?: readonly string[]): Promise<void> {
    return this.#lock.run(() => this.#vm.addTarget(targetId, start, diskIds));
  }

  removeTarget(targetId: string, diskIds?: readonly string[]): Promise<void> {
    return this.#vm.removeTarget(targetId, diskIds);
  }

  markAllocated(targetId: string): Promise<number> {
    return this.#lock.run(() => this.#vm.markAllocated(targetId));
  }

  compareSuspects(
    targetId: string,
    ask: AskHashes,
    options: { readonly limitBytes: number; readonly signal?: AbortSignal },
  ): Promise<ComparisonPass> {
    return this.#vm.compareSuspects(targetId, ask, options);
  }

  compareContent(
    targetId: string,
    diskIndex: number,
    ask: AskHashes,
    range: ContentRange,
  ): Promise<ContentPass> {
    return this.#vm.compareContent(targetId, diskIndex, ask, range);
  }

  markPending(targetId: string, diskIndex: number, extents: ExtentList): Promise<void> {
    return this.#vm.markPending(targetId, diskIndex, extents);
  }

  async readMarks(targetId: string): Promise<readonly DiskMarks[]> {
    return this.#vm.readMarks(targetId);
  }

  async addMarks(targetId: string, marks: readonly DiskMarks[]): Promise<void> {
    return this.#vm.addMarks(targetId, marks);
  }

  checkpoint(targetId: string, options?: CheckpointOptions): Promise<TargetChanges> {
    return this.#cut(() => this.#vm.checkpoint(targetId, options));
  }

  drain(targetId: string, options?: CheckpointOptions): Promise<TargetChanges> {
    return this.#cut(() => this.#vm.drain(targetId, options));
  }

  unstage(targetId: string): Promise<void> {
    return this.#vm.unstage(targetId);
  }

  commitInFlight(targetId: string): Promise<void> {
    return this.#vm.commitInFlight(targetId);
  }

  async progress(targetId: string): Promise<TargetProgress> {
    // What cannot be gone on to is said by the next cut.
    await this.advance().catch(() => undefined);
    return this.#vm.progress(targetId);
  }

  /** Idempotent; no cut is open any more. */
  close(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#isClosed) return;
      this.#isClosed = true;
      for (const disk of this.#at.disks) await disk.close();
      this.#at.point.release();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #cut(take: () => Promise<TargetChanges>): Promise<TargetChanges> {
    return this.#lock.run(async () => {
      await this.#advance();
      const changes = await take();
      this.#openCuts += 1;
      let isOpen = true;
      return new PointChanges(changes, this.#point, () => {
        if (isOpen) this.#openCuts -= 1;
        isOpen = false;
      });
    });
  }

  async #advance(): Promise<void> {
    if (this.#isClosed) throw new TidemarkError("CLOSED", "Cannot use the tracker: it is closed.");
    if (this.#openCuts > 0) return;
    const at = await advanceTrackedPoints(this.#tools, this.#replica, this.#at);
    if (at === "other") {
      this.#onOther();
      throw isOther(this.vmName);
    }
    this.#at = at;
  }

  /** As it is by now: empty cycles extend it. */
  get #point() {
    const { point } = this.#at.point;
    return this.#replica.chain.find(point.pointId)?.point ?? point;
  }
}

function isOther(vmName: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot go on with ${vmName}: because it has other disks by now, or another generation.`,
    { retryable: true, hint: "It goes on by itself." },
  );
}
