import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import type { Cut, SegmentPlan, SegmentSource } from "../model/delta.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { GroupCut } from "../model/group-cut.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import { binding, type NativeCapture, type NativeTrackedDevice } from "./binding.js";
import { encodeDeltaHeader } from "./delta-format.js";
import type { KnownContent } from "./known-content.js";
import { planSegments } from "./segment-plan.js";
import { openSegmentRecords } from "./segment-records.js";
import { targetIdOf } from "./target-id.js";
import type { TrackedDisk } from "./tracked-disk.js";

export interface CheckpointOptions {
  /** How long the gates may wait for writes under way. Default 50. */
  readonly drainLimitMs?: number;
  /** Content of one segment of the delta at most. Default 8 MiB. */
  readonly segmentBytes?: number;
  /** Memory for blocks that are overwritten before they were read, per disk. Default 64 MiB. */
  readonly captureMemoryBytes?: number;
  /** Where more of them go. Default: nowhere, the capture breaks. One file a disk, unlinked at once. */
  readonly spillPath?: string;
  /** Default 1 GiB. */
  readonly spillBytes?: number;
  /** False: nothing is frozen, reads see the disk as it is then. Default true. */
  readonly withCaptures?: boolean;
  /** Without captures: takes about this much of each disk, and leaves the rest. Default: all. */
  readonly limitBytes?: number;
  /** Counts the checkpoints of a VM. Default 0. */
  readonly sequence?: number;
  /** The cut of several VMs that it is part of. */
  readonly group?: GroupCut;
  /** As VmTracker's. */
  readonly unchangedSince?: string | null;
}

/** One disk of a cut. */
export interface CutDisk {
  readonly disk: TrackedDisk;
  readonly native: NativeTrackedDevice;
  readonly slot: number;
  readonly capture: NativeCapture;
}

/** The changed extents of one disk, and their content as of the checkpoint. */
export class CheckpointDisk {
  readonly disk: TrackedDisk;
  readonly changedBytes: number;
  readonly #capture: NativeCapture;

  constructor(disk: TrackedDisk, capture: NativeCapture) {
    this.disk = disk;
    this.#capture = capture;
    this.changedBytes = capture.dirtyBytes;
  }

  /** Ascending; each at most `maxExtentBytes` long (default 1 MiB). */
  *changedExtents(
    maxExtentBytes = 1 << 20,
  ): Generator<{ offsetBytes: number; lengthBytes: number }> {
    for (let fromBytes = 0; ; ) {
      const pairs = this.#capture.extents(fromBytes, 1024, maxExtentBytes);
      if (pairs.length === 0) return;
      for (let i = 0; i + 1 < pairs.length; i += 2) {
        const [offsetBytes = 0, lengthBytes = 0] = pairs.subarray(i, i + 2);
        yield { offsetBytes, lengthBytes };
        fromBytes = offsetBytes + lengthBytes;
      }
    }
  }

  /** The content at the checkpoint; the range must lie within a changed extent. */
  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const content = Buffer.allocUnsafe(lengthBytes);
    try {
      await this.#capture.read(Float64Array.of(offsetBytes, lengthBytes), content, 0);
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
    return content;
  }
}

/**
 * What one target has to learn, frozen at one instant across disks. End it with
 * commit() when the target holds it, or rollback(): until then the disks keep
 * what is overwritten, and the target can have no other checkpoint. Disposing
 * of an unended checkpoint rolls it back.
 */
export class Checkpoint implements TargetChanges, AsyncDisposable {
  readonly cut: Cut;
  readonly disks: readonly CheckpointDisk[];
  readonly segments: readonly SegmentPlan[];
  readonly dirtyBytes: number;
  readonly targetId: string;
  readonly #members: readonly CutDisk[];
  #isEnded = false;

  constructor(
    targetId: string,
    cut: Cut,
    members: readonly CutDisk[],
    segments: readonly SegmentPlan[],
  ) {
    this.targetId = targetId;
    this.cut = cut;
    this.#members = members;
    this.segments = segments;
    this.disks = members.map((member) => new CheckpointDisk(member.disk, member.capture));
    this.dirtyBytes = this.disks.reduce((sum, disk) => sum + disk.changedBytes, 0);
    for (const { disk } of members) disk.onCheckpoint(this, true);
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** The delta for the target as one stream (docs/formats/delta-stream.md); DeltaDecoder reads it. */
  delta(target: string): Readable {
    if (targetIdOf(target) !== this.targetId) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot make a delta for ${target}: the checkpoint is another target's.`,
      );
    }
    return Readable.from(this.#deltaBytes(), { objectMode: false });
  }

  source(deltaId: string, plan: SegmentPlan): SegmentSource {
    return { deltaId, plan, records: (signal) => openSegmentRecords(plan, deltaId, signal) };
  }

  release(plan: SegmentPlan): void {
    if (!this.#isEnded) this.#members[plan.diskIndex]?.capture.release(plan.extents);
  }

  brokenReason(): string | null {
    if (this.#isEnded) return null;
    // A cut takes all suspect blocks along: those that are there now came after it, and
    // what was read may be what was lost.
    if (this.#members.some(({ native, slot }) => isSuspect(native, slot))) {
      return "blocks became suspect after the checkpoint";
    }
    return (
      this.#members
        .map((member) => member.capture.brokenReason())
        .find((reason) => reason !== null) ?? null
    );
  }

  /** Copied so far because writes came before the reader. */
  savedBytes(): number {
    if (this.#isEnded) return 0;
    return this.#members.reduce((sum, { capture }) => sum + capture.savedBytes(), 0);
  }

  /** The target holds the changes: they are forgotten. */
  async commit(pointId?: string): Promise<void> {
    await this.#end(
      (member) => member.native.commit(member.slot),
      (known) => (pointId === undefined ? known.forget() : known.settle(pointId)),
    );
  }

  /** The target does not hold them: they count as changed again. */
  async rollback(): Promise<void> {
    const isBroken = this.brokenReason() !== null;
    await this.#end(
      (member) => member.native.giveBack(member.slot),
      (known) => (isBroken ? known.forget() : known.drop()),
    );
  }

  async giveBack(): Promise<void> {
    await this.rollback();
  }

  async stage(): Promise<void> {
    await this.#end(
      (member) => member.native.stage(member.slot),
      (known) => known.forget(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isEnded) await this.rollback();
  }

  /** Captures end first, so that no reader sees a block whose bit is gone. */
  async #end(
    move: (member: CutDisk) => Promise<void>,
    learn: (known: KnownContent) => Promise<void> | void,
  ): Promise<void> {
    if (this.#isEnded)
      throw new TidemarkError("CLOSED", "Cannot end the checkpoint: it has ended already.");
    this.#isEnded = true;
    try {
      for (const member of this.#members) await member.capture.close();
      for (const member of this.#members) await move(member);
      for (const { disk } of this.#members) await learn(disk.notes.knownContentOf(this.targetId));
    } catch (thrown) {
      throw toTidemarkError(thrown);
    } finally {
      for (const { disk } of this.#members) disk.onCheckpoint(this, false);
    }
  }

  async *#deltaBytes(): AsyncGenerator<Uint8Array> {
    const deltaId = randomUUID();
    const disks = this.#members.map(({ disk }) => disk);
    yield encodeDeltaHeader({ deltaId, segmentCount: this.segments.length, disks });
    for (const plan of this.segments) {
      // The stream reads ahead, and a chunk's memory is used again: copied.
      for await (const chunk of openSegmentRecords(plan, deltaId)) yield Buffer.from(chunk);
    }
  }
}

function isSuspect(native: NativeTrackedDevice, slot: number): boolean {
  const target = native.targets().find((candidate) => candidate.slot === slot);
  return target !== undefined && target.suspectBlocks > 0;
}

/** The disks of one VM, in a checkpoint of several VMs. */
export interface CheckpointPart {
  readonly disks: readonly TrackedDisk[];
  readonly target: string;
  readonly options: CheckpointOptions;
}

/** One barrier across the disks. TIMED_OUT when the drain limit passed: nothing was cut. */
export async function takeCheckpoint(
  disks: readonly TrackedDisk[],
  target: string,
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const [checkpoint] = await takeCheckpoints([{ disks, target, options }]);
  if (checkpoint !== undefined) return checkpoint;
  throw new TidemarkError("INTERNAL", "Cannot take the checkpoint: it has no answer.");
}

/**
 * One barrier across the disks of all parts: all are cut, or none is. A checkpoint for each
 * part, each to be ended by itself. What concerns the barrier and the captures is taken
 * from the first part's options.
 */
export async function takeCheckpoints(parts: readonly CheckpointPart[]): Promise<Checkpoint[]> {
  for (const part of parts) await forgetDoubtful(part);
  const cuts = await cutDisks(parts, { wholeDisk: false });
  const plans = await Promise.allSettled(cuts.map(planShare));
  const checkpoints = cuts.map(({ part, cut, members }, index) => {
    const plan = plans[index];
    const segments = plan?.status === "fulfilled" ? plan.value : [];
    return new Checkpoint(targetIdOf(part.target), cut, members, segments);
  });
  const failed = plans.find((plan) => plan.status === "rejected");
  if (failed === undefined) return checkpoints;
  for (const checkpoint of checkpoints) await checkpoint.rollback();
  throw failed.reason;
}

/** What is suspect is not known; neither is anything when nobody asks what is known. */
async function forgetDoubtful({ disks, target, options }: CheckpointPart): Promise<void> {
  for (const disk of disks) {
    const isDoubted = options.unchangedSince === undefined;
    const isDoubtful = isDoubted || isSuspect(disk.native, disk.slotOf(target));
    if (isDoubtful) await disk.notes.knownContentOf(target).forget();
  }
}

async function planShare({ part, members }: CutShare): Promise<readonly SegmentPlan[]> {
  const { target, options } = part;
  const { unchangedSince } = options;
  if (unchangedSince !== undefined) {
    for (const { disk, capture } of members) {
      await disk.notes.knownContentOf(target).begin(capture, unchangedSince);
    }
  }
  const captures = members.map(({ capture }) => capture);
  // Without captures there is nothing that reading early could save.
  const isFrozen = options.withCaptures ?? true;
  const heats = isFrozen ? members.map(({ disk }) => disk.notes.heatOf(target)) : [];
  return planSegments(captures, options.segmentBytes ?? 8 << 20, heats);
}

/** One part's share of a cut. */
export interface CutShare {
  readonly part: CheckpointPart;
  readonly cut: Cut;
  readonly members: readonly CutDisk[];
}

/** The barrier, for whoever makes something of its captures. */
export async function cutDisks(
  parts: readonly CheckpointPart[],
  { wholeDisk }: { readonly wholeDisk: boolean },
): Promise<readonly CutShare[]> {
  const places = parts.flatMap((part) =>
    part.disks.map((disk) => ({ part, disk, slot: disk.slotOf(part.target) })),
  );
  const natives = places.map(({ disk }) => disk.native);
  for (const { disk } of places) await disk.resized();
  for (const { disk, part } of places) disk.requireNoCheckpoint(part.target);
  const takenAtMs = Date.now();
  const slots = places.map(({ slot }) => slot);
  const taken = await nativeCheckpoint(natives, slots, wholeDisk, parts[0]?.options ?? {});
  const members = taken.captures.map((capture, index) => {
    const [place, native] = [places[index], natives[index]];
    if (place === undefined || native === undefined) {
      throw new TidemarkError("INTERNAL", "Cannot take the checkpoint: a disk has no capture.");
    }
    return { ...place, native, capture };
  });
  return parts.map((part) => ({
    part,
    cut: cutOf(takenAtMs, taken, part.options),
    members: members.filter((member) => member.part === part),
  }));
}

function cutOf(
  takenAtMs: number,
  { pauseNs, requestsInFlight }: Pick<Cut, "pauseNs" | "requestsInFlight">,
  { sequence = 0, group }: CheckpointOptions,
): Cut {
  return {
    sequence,
    takenAtMs,
    pauseNs,
    requestsInFlight,
    consistency: "crash",
    ...(group === undefined ? {} : { group }),
  };
}

async function nativeCheckpoint(
  natives: NativeTrackedDevice[],
  slots: number[],
  wholeDisk: boolean,
  options: CheckpointOptions,
) {
  try {
    return await binding.checkpoint(natives, slots, {
      drainLimitMs: options.drainLimitMs ?? 50,
      withCaptures: options.withCaptures ?? true,
      wholeDisk,
      limitBytes: options.limitBytes ?? 0,
      captureMemoryBytes: options.captureMemoryBytes ?? 64 << 20,
      spillPath: options.spillPath ?? "",
      spillBytes: options.spillBytes ?? 2 ** 30,
    });
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
