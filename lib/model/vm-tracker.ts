import type { Cut, SegmentPlan, SegmentSource } from "./delta.js";
import type { ExtentList } from "./block-hashes.js";
import type { DiskGeometry } from "./disk.js";
import type { DiskMarks } from "./disk-marks.js";
import type { GroupCut } from "./group-cut.js";
import type { SuspicionCause } from "./suspicion.js";

export interface CheckpointOptions {
  /** How long the gates may wait for what is under way. Default 50. */
  readonly drainLimitMs?: number;
  /** Content budget of one segment; its last extent is split to fit. Default 8 MiB. */
  readonly segmentBytes?: number;
  /** drain only: take about this much of what is pending and leave the rest. Default: all. */
  readonly limitBytes?: number;
  /** What the cut is part of. */
  readonly group?: GroupCut;
  /**
   * The target's newest point: blocks that are known to hold what they hold in it are left out
   * of the segments. Null: there is none, or not only that. Absent: all travels, and what was
   * known is forgotten.
   */
  readonly unchangedSince?: string | null;
  readonly signal?: AbortSignal;
}

/**
 * The frozen changes of one checkpoint for one target, or one drain pass (then
 * the content is what the disks hold when it is read). Exactly one of commit,
 * giveBack or stage ends it.
 */
export interface TargetChanges {
  readonly cut: Cut;
  readonly dirtyBytes: number;
  /** In the order in which they should be read; one whose turn is late may have to be copied meanwhile. */
  readonly segments: readonly SegmentPlan[];
  source(deltaId: string, plan: SegmentPlan): SegmentSource;
  /** The segment's content is where it is needed: writers need not save it any more. */
  release(plan: SegmentPlan): void;
  /** Why the content is lost, or null. The dirty bits are kept either way. */
  brokenReason(): string | null;
  /**
   * The replica holds the point: the in-flight and staged bits go. Without its id, what was
   * known of the target's content is forgotten.
   */
  commit(pointId?: string): Promise<void>;
  /** Not replicated: the bits return to pending. */
  giveBack(): Promise<void>;
  /** The replica's staging session holds it: in-flight becomes staged. */
  stage(): Promise<void>;
}

export interface TargetProgress {
  /** What the next checkpoint would carry: pending and live changes. */
  readonly pendingBytes: number;
  readonly inFlightBytes: number;
  readonly stagedBytes: number;
  /** Nobody knows whether the target has them: to be compared, else part of the next cut. */
  readonly suspectBytes: number;
  /** Of all disks; none when nothing is suspect. */
  readonly suspicionCauses: readonly SuspicionCause[];
  /** Why what the guest writes is not tracked now. Absent: it is. */
  readonly untrackedReason?: string;
}

/** How the target's head hashes; rejects when its head is another one by now. */
export type AskHashes = (
  diskIndex: number,
  extents: ExtentList,
  blockBytes: number,
) => Promise<Uint8Array>;

export interface ComparisonPass {
  /** 0: nothing is suspect any more. */
  readonly comparedBytes: number;
  readonly differingBytes: number;
  /** New suspicion came up meanwhile: the pass counts for nothing. */
  readonly isOvertaken: boolean;
}

/** A piece of a disk that is compared with a target's head, whatever is marked of it. */
export interface ContentRange {
  readonly fromBytes: number;
  /** About as much; whole blocks. */
  readonly limitBytes: number;
  readonly signal?: AbortSignal;
}

export interface ContentPass {
  /** Where the next one begins; the disk's size at its end. */
  readonly nextBytes: number;
  readonly lengthBytes: number;
  /** Differs because it was written since the head's cut: not judged. */
  readonly writtenBytes: number;
  /** Differs though nothing says why. */
  readonly differing: ExtentList;
}

/** What a target that is added has to learn of what the disks hold already. */
export type AddedTarget =
  /** Nothing: markAllocated() follows. */
  | "nothing"
  /** It holds nothing yet, so all counts that is not known to be zero. */
  | "allocated"
  /** It holds an earlier state: everything is suspect. */
  | "suspect";

/**
 * The tracked disks of one VM, as the engine sees them: lib/tracking implements
 * it over the addon, model/memory-tracker.ts in memory.
 */
export interface VmTracker {
  /** They may be resized; when one comes or goes, the VM has another tracker. */
  readonly disks: readonly DiskGeometry[];
  /** False when any of the disks does not have it. */
  hasTarget(targetId: string): Promise<boolean>;
  /**
   * Idempotent, disk by disk; of some disks alone when they are named. From its return on,
   * every write counts for the target.
   */
  addTarget(targetId: string, start?: AddedTarget, diskIds?: readonly string[]): Promise<void>;
  /** Idempotent, disk by disk. */
  removeTarget(targetId: string, diskIds?: readonly string[]): Promise<void>;
  /** Marks everything that is not known to be zero as pending; answers how much. */
  markAllocated(targetId: string): Promise<number>;
  /**
   * Compares some of what is suspect, about `limitBytes`, with the target's head, while
   * the disks are written to. What is equal is not suspect any more; what differs is
   * pending, durably before it is not suspect. Never while a cut of the target is open.
   */
  compareSuspects(
    targetId: string,
    ask: AskHashes,
    options: { readonly limitBytes: number; readonly signal?: AbortSignal },
  ): Promise<ComparisonPass>;
  /**
   * Compares a piece of a disk with the target's head while it is written to; changes
   * nothing. Never while a cut of the target is open.
   */
  compareContent(
    targetId: string,
    diskIndex: number,
    ask: AskHashes,
    range: ContentRange,
  ): Promise<ContentPass>;
  /** The next cut takes these blocks along. */
  markPending(targetId: string, diskIndex: number, extents: ExtentList): Promise<void>;
  /** What is marked, in all maps; of disks that do not have the target nothing is known, and they are left out. */
  readMarks(targetId: string): Promise<readonly DiskMarks[]>;
  /** Durably more than is marked already; each of the disks has the target. */
  addMarks(targetId: string, marks: readonly DiskMarks[]): Promise<void>;
  /** One barrier across all disks; what is suspect still is part of it. TIMED_OUT when the drain limit passed. */
  checkpoint(targetId: string, options?: CheckpointOptions): Promise<TargetChanges>;
  /** As checkpoint, without a capture: nothing is frozen or copied. */
  drain(targetId: string, options?: CheckpointOptions): Promise<TargetChanges>;
  /** Staged bits return to pending: the replica lost the session. */
  unstage(targetId: string): Promise<void>;
  /** The in-doubt delta turned out to be committed: in-flight and staged bits go. */
  commitInFlight(targetId: string): Promise<void>;
  progress(targetId: string): Promise<TargetProgress>;
}

/** One VM's part in a cut of several. */
export interface CutMember {
  readonly tracker: VmTracker;
  readonly targetId: string;
  readonly options: CheckpointOptions;
}

/**
 * VmTracker.checkpoint() of several VMs under one barrier: all are cut at one instant, or
 * none is. In the order of the members, whose drain limits are the same.
 */
export type CutTogether = (members: readonly CutMember[]) => Promise<readonly TargetChanges[]>;
