import type { Cut } from "#lib/model/delta.js";
import type { DiskGeometry } from "#lib/model/disk.js";
import type { MemoryReplica } from "#lib/model/memory-replica.js";
import type { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { RelationshipRecord } from "#lib/model/relationship.js";
import type { RecoveryPoint, ReplicaVmStatus } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import { TARGET_ID, VM_ID } from "./scene.js";

export class Violation extends Error {}

/**
 * What must hold whenever nothing moves: each recovery point equals the disks
 * at its cut (G2), and each block that is not marked equals the replica's (G1).
 */
export class InvariantChecker {
  readonly #replica: MemoryReplica;
  readonly #tracker: MemoryVmTracker;
  readonly #store: StateStore;
  readonly #targetId: string;
  readonly #cuts = new Map<number, { takenAtMs: number; disks: Map<string, Uint8Array> }>();
  readonly #checkedUntil = new Map<string, number>();
  #failure: Violation | null = null;
  /** Of the record at the last check. */
  #headPointId: string | null = null;

  /** Of that target of the VM; another's replica has a checker of its own. */
  constructor(
    replica: MemoryReplica,
    tracker: MemoryVmTracker,
    store: StateStore,
    targetId = TARGET_ID,
  ) {
    this.#targetId = targetId;
    this.#replica = replica;
    this.#tracker = tracker;
    this.#store = store;
  }

  /** Called at the instant of a cut, while no write can come in between. */
  noteCut(cut: Cut): void {
    const disks = new Map(
      this.#tracker.disks.map(({ diskId }, index) => [
        diskId,
        this.#tracker.contentOf(index).slice(),
      ]),
    );
    this.#cuts.set(cut.sequence, { takenAtMs: cut.takenAtMs, disks });
  }

  /** Reported at the next check, outside of whatever calls it. */
  fail(message: string): void {
    this.#failure ??= new Violation(message);
  }

  async check(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const [status, record] = await Promise.all([this.#status(), this.#record()]);
    if (status === null || record === null) return;
    for (const point of await this.#replica.points(VM_ID)) this.#checkPoint(point);
    // A target that is not there has nothing to be trusted.
    const isTracked = await this.#tracker.hasTarget(this.#targetId);
    const isOwnHead = isHeadOf(record, status);
    if (record.allocationMarked && isTracked && isOwnHead) this.#checkMarks(status, record);
    if (isTracked) await this.#checkStaged(record);
  }

  /** A point that was committed took its session in. */
  async #checkStaged({ headPointId, stagingSessionId }: RelationshipRecord): Promise<void> {
    if (headPointId === this.#headPointId) return;
    this.#headPointId = headPointId;
    // Its replication is being ended.
    if (headPointId === null) return;
    const { stagedBytes } = await this.#tracker.progress(this.#targetId);
    if (stagingSessionId !== null || stagedBytes === 0) return;
    throw new Violation("blocks stay staged although a point has taken the session in");
  }

  async isInDoubt(): Promise<boolean> {
    return ((await this.#record())?.inDoubt ?? null) !== null;
  }

  /** Nothing is left to do, and the replica says that it is up to date. */
  async isSettled(): Promise<boolean> {
    const [status, record] = await Promise.all([this.#status(), this.#record()]);
    if (!record?.allocationMarked || !status?.head) return false;
    if (!(await this.#tracker.hasTarget(this.#targetId))) return false;
    const progress = await this.#tracker.progress(this.#targetId).catch(() => null);
    // It was taken away meanwhile, to be added anew.
    if (progress === null) return false;
    const { pendingBytes, inFlightBytes, stagedBytes, suspectBytes } = progress;
    const there = this.#replica.disksOf(VM_ID, status.head.pointId).disks;
    return (
      sizesOf(there) === sizesOf(this.#tracker.disks) &&
      record.state === "replicating" &&
      record.inDoubt === null &&
      record.stagingSessionId === null &&
      record.headPointId === status.head.pointId &&
      pendingBytes + inFlightBytes + stagedBytes + suspectBytes === 0
    );
  }

  requireEqual(): void {
    this.#tracker.disks.forEach(({ diskId }, diskIndex) => {
      const { head } = this.#lastStatus ?? {};
      const content = this.#replica.contentOf(VM_ID, head?.pointId ?? "", diskId);
      if (!equal(content, this.#tracker.contentOf(diskIndex))) {
        throw new Violation(`the replica of disk ${diskIndex} does not come to equal the disk`);
      }
    });
  }

  #lastStatus: ReplicaVmStatus | null = null;

  async #status(): Promise<ReplicaVmStatus | null> {
    this.#lastStatus = await this.#replica.status(VM_ID).catch(() => null);
    return this.#lastStatus;
  }

  async #record(): Promise<RelationshipRecord | null> {
    const documents = await this.#store.list("relationships/");
    const records = documents.map(({ value }) => value as RelationshipRecord);
    return records.find(({ settings }) => settings.targetId === this.#targetId) ?? null;
  }

  #checkPoint(point: RecoveryPoint): void {
    if (this.#checkedUntil.get(point.pointId) === point.validUntilMs) return;
    const cut = this.#cuts.get(point.cutSequence);
    if (cut === undefined || !this.#holds(point, cut.disks)) {
      throw new Violation(`point ${point.sequence} is not the disks at cut ${point.cutSequence}`);
    }
    const later = [...this.#cuts.values()].filter((c) => c.takenAtMs === point.validUntilMs);
    if (!later.some(({ disks }) => this.#holds(point, disks))) {
      throw new Violation(`point ${point.sequence} was not valid at ${point.validUntilMs}`);
    }
    this.#checkedUntil.set(point.pointId, point.validUntilMs);
  }

  #holds(point: RecoveryPoint, disks: ReadonlyMap<string, Uint8Array>): boolean {
    const there = this.#replica.disksOf(VM_ID, point.pointId).disks;
    return (
      there.length === disks.size &&
      [...disks].every(
        ([diskId, content]) =>
          there.some((disk) => disk.diskId === diskId) &&
          equal(content, this.#replica.contentOf(VM_ID, point.pointId, diskId)),
      )
    );
  }

  /** Of a disk that the point does not have: zeroes. */
  #contentAt(pointId: string, { diskId, sizeBytes }: DiskGeometry): Uint8Array {
    const { disks } = this.#replica.disksOf(VM_ID, pointId);
    const isThere = disks.some((disk) => disk.diskId === diskId);
    return isThere ? this.#replica.contentOf(VM_ID, pointId, diskId) : new Uint8Array(sizeBytes);
  }

  #checkMarks(status: ReplicaVmStatus, record: RelationshipRecord): void {
    // Without a session, a staged mark vouches for nothing: it returns to pending first.
    const isStagingKnown =
      record.stagingSessionId !== null && status.stagingSessionId === record.stagingSessionId;
    this.#tracker.disks.forEach((geometry, diskIndex) => {
      const { diskId, sizeBytes, granularityBytes } = geometry;
      if (record.markedDiskIds?.includes(diskId) !== true) return;
      const disk = this.#tracker.contentOf(diskIndex);
      const pointId = status.head?.pointId;
      const head =
        pointId === undefined ? new Uint8Array(sizeBytes) : this.#contentAt(pointId, geometry);
      const staged = this.#replica.stagedContentOf(VM_ID, geometry) ?? head;
      for (let block = 0; block * granularityBytes < sizeBytes; block += 1) {
        const marks = this.#tracker.marksOf(this.#targetId, diskIndex, block);
        if (marks.live || marks.pending || marks.inFlight || marks.suspect) continue;
        if (marks.staged && !isStagingKnown) continue;
        const from = block * granularityBytes;
        const range = [from, Math.min(from + granularityBytes, sizeBytes)] as const;
        const there = (marks.staged ? staged : head).subarray(...range);
        if (equal(there, disk.subarray(...range))) continue;
        throw new Violation(
          `block ${block} of disk ${diskIndex} differs from the replica and is not marked`,
        );
      }
    });
  }
}

function sizesOf(disks: readonly DiskGeometry[]): string {
  return disks.map(({ diskId, sizeBytes }) => `${diskId} ${sizeBytes}`).join();
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

/** Not so after a removal that was interrupted and resumed: then nothing is written over it. */
function isHeadOf(
  { headPointId, inDoubt }: RelationshipRecord,
  { head }: ReplicaVmStatus,
): boolean {
  return head === null || headPointId !== null || inDoubt?.deltaId === head.pointId;
}
