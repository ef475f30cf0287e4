import type { DeltaHeader, SegmentReceipt, SegmentSource } from "./delta.js";
import type { BlockHashRequest, ExtentList } from "./block-hashes.js";
import type { Generation, ReplicatedVm } from "./disk.js";
import type { DiskMarks } from "./disk-marks.js";
import type { GroupPoint } from "./group-cut.js";
import type { Lineage, Succession } from "./lineage.js";

/** A committed, restorable state of a VM on a replica. */
export interface RecoveryPoint {
  /** The delta's id. */
  readonly pointId: string;
  /** From 1, on this replica; orders the points whatever the clocks say. */
  readonly sequence: number;
  readonly parentPointId: string | null;
  readonly generation: Generation;
  readonly takenAtMs: number;
  /** Later than takenAtMs when empty cycles extended it. */
  readonly validUntilMs: number;
  readonly cutSequence: number;
  readonly consistency: "crash" | "application";
  /** The delta's digest: SHA-256 over the ordered segment digests, hex. */
  readonly digest: string;
  /** Block content that this point added, uncompressed. */
  readonly changedBytes: number;
  /** The cut of a consistency group that it is part of. */
  readonly group?: GroupPoint | undefined;
}

export interface ReplicaVmStatus {
  readonly vm: ReplicatedVm;
  readonly generation: Generation;
  /** The last is the present generation. Undefined: of a version that had no failover. */
  readonly lineage?: Lineage | undefined;
  readonly head: RecoveryPoint | null;
  readonly pointCount: number;
  readonly stagingSessionId: string | null;
  readonly storedBytes: number;
  /** What of the head a verification has found damaged: it has to come again. */
  readonly headDamage?: readonly DiskDamage[] | undefined;
}

export interface DiskDamage {
  readonly diskId: string;
  readonly extents: ExtentList;
}

export interface CommitRequest {
  readonly vmId: string;
  readonly deltaId: string;
  readonly attempt: number;
  readonly generation: Generation;
  readonly digest: string;
  /** Of a delta without segments that was not announced: this does both. */
  readonly header?: DeltaHeader | undefined;
}

/** Asks a host to become the replica of a VM that it had. */
export interface ReturnRequest {
  readonly vm: ReplicatedVm;
  readonly lineage: Lineage;
  /** The newest point that it had made when the VM went on; undefined: not known. */
  readonly formerHeadId?: string | undefined;
}

/** What a host's own disks of a VM became that goes on elsewhere. */
export interface ReturnedDisks {
  readonly status: ReplicaVmStatus;
  /** They are as they were at the point from which the VM went on. */
  readonly isUnchanged: boolean;
  /**
   * Where they may hold something else than the former head; of a disk that is not among
   * them nothing is known. Undefined: of none.
   */
  readonly marks?: readonly DiskMarks[] | undefined;
}

/**
 * The replica as the engine on the primary sees it: transport implements it
 * over HTTPS, replica over its own store, and model/memory-replica.ts in memory.
 * One contract suite runs on all three (test/contracts/replica-endpoint.ts).
 *
 * Every call may be repeated: after a lost answer the caller asks again. A
 * `generation` that is not the replica's present one is refused with FENCED.
 */
export interface ReplicaEndpoint {
  /** Registers the VM, or confirms that it is the same. CONFLICT when it differs. */
  enable(vm: ReplicatedVm, generation: Generation, signal?: AbortSignal): Promise<ReplicaVmStatus>;

  /** NOT_FOUND when the VM was never enabled. */
  status(vmId: string, signal?: AbortSignal): Promise<ReplicaVmStatus>;

  /** Starts a staging session and drops an earlier one that no point took in. */
  openStaging(vmId: string, generation: Generation, signal?: AbortSignal): Promise<string>;

  /**
   * Announces a delta attempt and says which of its segments are durable
   * already. Supersedes every other open delta of the VM: their late segments
   * are refused. PARENT_MISMATCH, STAGING_LOST, FENCED.
   */
  openDelta(header: DeltaHeader, signal?: AbortSignal): Promise<readonly SegmentReceipt[]>;

  /** Resolves when the segment is durable. Several at once may be under way. */
  putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt>;

  /**
   * Makes the delta a recovery point (kind "point"), or part of its staging
   * session ("staging": answers null), when all its segments are there and
   * their digest is the one given (CORRUPT). Idempotent: a repeated commit of
   * the head answers the head. An empty delta extends the head's validity; with its
   * header in the request it need not be announced, and supersedes nothing.
   */
  commit(request: CommitRequest, signal?: AbortSignal): Promise<RecoveryPoint | null>;

  /** Forgets an open delta that will not be committed. */
  abandon(vmId: string, deltaId: string, signal?: AbortSignal): Promise<void>;

  /**
   * Deletes the VM with all its points; what is not there is deleted already. FENCED for
   * another generation, IN_USE while one of its points is open or pinned.
   */
  deleteVm(vmId: string, generation: Generation, signal?: AbortSignal): Promise<void>;

  /**
   * The VM's next generation, durable: everything of the one before is refused from then
   * on. Where its holder is the generation itself, the replica takes over. Idempotent.
   * FENCED when it does not follow the present one; PARENT_MISMATCH when it is not to
   * begin from where the replica is.
   */
  succeed(succession: Succession, signal?: AbortSignal): Promise<ReplicaVmStatus>;

  /**
   * The host that had the VM before becomes its replica: its disks as they stand are the
   * first recovery point, pinned, so that nothing is lost that only they hold. Idempotent.
   * NOT_FOUND when it never had the VM; CONFLICT, retryable, until it knows itself that
   * the VM went on; FENCED when that is not what the lineage says.
   */
  takeReturned(request: ReturnRequest, signal?: AbortSignal): Promise<ReturnedDisks>;

  points(vmId: string, signal?: AbortSignal): Promise<readonly RecoveryPoint[]>;

  /**
   * SHA-256 of the blocks of a disk at the head, 32 bytes each. What lies past the
   * disk's end at that point hashes as zeroes. PARENT_MISMATCH when the point is not
   * the head; INVALID_ARGUMENT for more than MAX_HASHED_BYTES or MAX_HASH_COUNT.
   */
  blockHashes(request: BlockHashRequest, signal?: AbortSignal): Promise<Uint8Array>;
}
