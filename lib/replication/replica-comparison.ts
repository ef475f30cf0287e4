/**
 * Compares a VM's disks with the replica's newest point, piece by piece between the
 * cycles, the guest running. Each piece is compared with the point of that moment, and
 * what was written since its cut is left out: so a difference is one that nothing
 * explains.
 */
import { type ExtentList, lengthOf } from "../model/block-hashes.js";
import type { DiskGeometry } from "../model/disk.js";
import { toTidemarkError } from "../model/errors.js";
import { unionOf } from "../model/extent-list.js";
import type { ComparisonReport } from "../model/replica-comparison.js";
import type { ContentPass } from "../model/vm-tracker.js";
import { askReplica } from "./ask-replica.js";
import type { RelationshipContext } from "./relationship-context.js";

const EXTENTS_KEPT = 1000;

/** How far a disk is, and what was found on it. */
interface Findings {
  readonly name: string;
  /** What it grows by afterwards is marked, and travels. */
  isDone: boolean;
  nextBytes: number;
  comparedBytes: number;
  writtenBytes: number;
  differingBytes: number;
  extents: ExtentList;
}

export class ReplicaComparison {
  readonly #isRepair: boolean;
  readonly #startedAtMs: number;
  /** By the disk's id, of the disks that are there. */
  readonly #findings = new Map<string, Findings>();
  #endedAtMs: number | null = null;
  #state: ComparisonReport["state"] = "running";
  #totalBytes = 0;
  #firstPointId: string | null = null;
  #lastPointId: string | null = null;
  #waitsFor: string | null = null;

  constructor(isRepair: boolean, nowMs: number) {
    this.#isRepair = isRepair;
    this.#startedAtMs = nowMs;
  }

  get isRunning(): boolean {
    return this.#state === "running";
  }

  report(): ComparisonReport {
    return {
      state: this.#state,
      startedAtMs: this.#startedAtMs,
      endedAtMs: this.#endedAtMs,
      isRepair: this.#isRepair,
      comparedBytes: this.#sum("comparedBytes"),
      totalBytes: this.#totalBytes,
      writtenBytes: this.#sum("writtenBytes"),
      differingBytes: this.#sum("differingBytes"),
      firstPointId: this.#firstPointId,
      lastPointId: this.#lastPointId,
      disks: [...this.#findings].map(([diskId, { name, extents, differingBytes }]) => ({
        diskId,
        name,
        differingBytes,
        extents: extents.slice(0, 2 * EXTENTS_KEPT),
      })),
      waitsFor: this.#waitsFor,
    };
  }

  stop(nowMs: number): void {
    if (this.isRunning) this.#end("stopped", nowMs);
  }

  /**
   * Piece after piece until `untilMs` of the monotonic clock, at least one. Never while a
   * cut of the target is open. A failure is not replication's: it tries again after the
   * next cycle.
   */
  async run(context: RelationshipContext, untilMs: number, signal: AbortSignal): Promise<void> {
    try {
      do {
        if (!this.isRunning) return;
        await this.#piece(context, signal);
        this.#waitsFor = null;
      } while (context.clock.monotonicMs() < untilMs);
    } catch (thrown) {
      signal.throwIfAborted();
      this.#waitsFor = toTidemarkError(thrown).message;
    }
  }

  async #piece(context: RelationshipContext, signal: AbortSignal): Promise<void> {
    const { tracker, targetId, journal, clock, limits } = context;
    const pointId = journal.record.headPointId;
    if (pointId === null) return;
    this.#followDisks(tracker.disks);
    const diskIndex = tracker.disks.findIndex((one) => this.#isLeft(one));
    const disk = tracker.disks[diskIndex];
    if (disk === undefined) return this.#end("done", clock.nowMs());
    const found = this.#of(disk);
    const range = { fromBytes: found.nextBytes, limitBytes: limits.comparisonBytes, signal };
    const ask = askReplica(context, pointId, signal);
    const pass = await tracker.compareContent(targetId, diskIndex, ask, range);
    if (this.#isRepair) await tracker.markPending(targetId, diskIndex, pass.differing);
    this.#firstPointId ??= pointId;
    this.#lastPointId = pointId;
    note(found, pass);
    found.isDone = pass.nextBytes >= disk.sizeBytes;
  }

  /** A disk may have become smaller than what was compared of it. */
  #isLeft(disk: DiskGeometry): boolean {
    const { isDone, nextBytes } = this.#of(disk);
    return !isDone && nextBytes < disk.sizeBytes;
  }

  #of({ diskId, name }: DiskGeometry): Findings {
    const known = this.#findings.get(diskId);
    if (known !== undefined) return known;
    const none = { nextBytes: 0, comparedBytes: 0, writtenBytes: 0, differingBytes: 0 };
    const found = { name, isDone: false, ...none, extents: [] };
    this.#findings.set(diskId, found);
    return found;
  }

  /** Disks may come, go and grow meanwhile. */
  #followDisks(disks: readonly DiskGeometry[]): void {
    this.#totalBytes = disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    for (const known of this.#findings.keys()) {
      if (!disks.some(({ diskId }) => diskId === known)) this.#findings.delete(known);
    }
  }

  #sum(of: "comparedBytes" | "writtenBytes" | "differingBytes"): number {
    return [...this.#findings.values()].reduce((sum, found) => sum + found[of], 0);
  }

  #end(state: ComparisonReport["state"], nowMs: number): void {
    this.#state = state;
    this.#endedAtMs = nowMs;
    this.#waitsFor = null;
  }
}

function note(found: Findings, pass: ContentPass): void {
  found.nextBytes = pass.nextBytes;
  found.comparedBytes += pass.lengthBytes;
  found.writtenBytes += pass.writtenBytes;
  found.differingBytes += lengthOf(pass.differing);
  if (found.extents.length >= 2 * EXTENTS_KEPT) return;
  found.extents = unionOf(found.extents, pass.differing);
}
