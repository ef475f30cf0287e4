import type { DeltaHeader, SegmentReceipt, SegmentSource } from "./delta.js";
import type { BlockHashRequest } from "./block-hashes.js";
import type { Generation, ReplicatedVm } from "./disk.js";
import type { GroupPoint } from "./group-cut.js";

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
  readonly head: RecoveryPoint | null;
  readonly pointCount: number;
  readonly stagingSessionId: string | null;
  readonly storedBytes: number;
}

export interface CommitRequest {
  readonly vmId: string;
  readonly deltaId: string;
  readonly attempt: number;
  readonly generation: Generation;
  readonly digest: string;
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
   * the head answers the head. An empty delta extends the head's validity.
   */
  commit(request: CommitRequest, signal?: AbortSignal): Promise<RecoveryPoint | null>;

  /** Forgets an open delta that will not be committed. */
  abandon(vmId: string, deltaId: string, signal?: AbortSignal): Promise<void>;

  points(vmId: string, signal?: AbortSignal): Promise<readonly RecoveryPoint[]>;

  /**
   * SHA-256 of the blocks of a disk at the head, 32 bytes each. What lies past the
   * disk's end at that point hashes as zeroes. PARENT_MISMATCH when the point is not
   * the head; INVALID_ARGUMENT for more than MAX_HASHED_BYTES or MAX_HASH_COUNT.
   */
  blockHashes(request: BlockHashRequest, signal?: AbortSignal): Promise<Uint8Array>;
}
