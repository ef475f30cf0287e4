import type { Generation } from "./disk.js";
import type { GroupCut } from "./group-cut.js";
import type { PauseSummary } from "./pause-histogram.js";
import type { SuspicionCause } from "./suspicion.js";

export type RelationshipState =
  | "ready"
  | "initial-replication"
  | "replicating"
  | "suspended"
  | "error";

export type Health = "normal" | "warning" | "critical";

export interface RelationshipSettings {
  readonly vmId: string;
  /** UUID of this target in the VM's bitmaps. */
  readonly targetId: string;
  /** "https://host:port". */
  readonly replicaUrl: string;
  readonly intervalMs: number;
  readonly compressionLevel: number;
  /** The consistency group that the VM is cut with. */
  readonly group?: string | undefined;
}

/** The note made durable before a commit is asked for. */
export interface InDoubt {
  readonly deltaId: string;
  readonly attempt: number;
  readonly digest: string;
}

/** What must survive a restart; one document of the state store. */
export interface RelationshipRecord {
  readonly settings: RelationshipSettings;
  readonly state: RelationshipState;
  readonly generation: Generation;
  /** The replica's head as last acknowledged. */
  readonly headPointId: string | null;
  readonly cutSequence: number;
  readonly inDoubt: InDoubt | null;
  readonly stagingSessionId: string | null;
  /** Everything allocated was marked pending for the first copy. */
  readonly allocationMarked: boolean;
}

/** What came of comparing suspect blocks with the replica. */
export interface HealingReport {
  readonly causes: readonly SuspicionCause[];
  readonly comparedBytes: number;
  /** What differed, and travels with the next point. */
  readonly differingBytes: number;
  readonly durationMs: number;
}

export interface CycleReport {
  readonly kind: "initial" | "cycle";
  readonly cutSequence: number;
  readonly pointId: string | null;
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly changedBytes: number;
  readonly sentBytes: number;
  readonly pauseNs: number;
  readonly requestsInFlight: number;
  /** Age of the replica's state when the commit was acknowledged. */
  readonly lagMs: number;
  /** Of what was suspect before the cut; null when nothing was. */
  readonly healing: HealingReport | null;
  /** The cut of the VM's consistency group. */
  readonly group?: GroupCut | undefined;
}

export interface RelationshipError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly retryable: boolean;
  readonly retryAtMs: number | null;
}

export interface RelationshipStatus {
  readonly settings: RelationshipSettings;
  readonly state: RelationshipState;
  readonly health: Health;
  readonly healthReasons: readonly string[];
  readonly headPointId: string | null;
  readonly cycleCount: number;
  readonly missedCycleCount: number;
  readonly pendingBytes: number;
  /** What is being compared with the replica, and why; no point is made meanwhile. */
  readonly suspectBytes: number;
  readonly suspicionCauses: readonly SuspicionCause[];
  /** The last comparison since the start, finished or not. */
  readonly lastHealing: HealingReport | null;
  readonly lagMs: number | null;
  readonly lastCycle: CycleReport | null;
  readonly lastError: RelationshipError | null;
  /** How long this VM's gates were closed, since the start of the service. */
  readonly pauses: PauseSummary;
  /** During initial replication: how much of how much is at the replica. */
  readonly initialProgress: { readonly sentBytes: number; readonly totalBytes: number } | null;
}

/** A consistency group of this host, and its cuts since the start of the service. */
export interface GroupStatus {
  readonly name: string;
  readonly vmIds: readonly string[];
  readonly cutCount: number;
  /** Cuts that did not take every member. */
  readonly incompleteCutCount: number;
  readonly lastCut: GroupCut | null;
  /** How long the members' gates were closed together. */
  readonly pauses: PauseSummary;
}

/** What the engine tells whoever listens (events, metrics, the demonstration). */
export type ReplicationEvent =
  | { readonly type: "state"; readonly vmId: string; readonly state: RelationshipState }
  | {
      readonly type: "initial-progress";
      readonly vmId: string;
      readonly sentBytes: number;
      readonly totalBytes: number;
    }
  | { readonly type: "healing"; readonly vmId: string; readonly report: HealingReport }
  | { readonly type: "cycle"; readonly vmId: string; readonly report: CycleReport }
  | { readonly type: "missed"; readonly vmId: string; readonly reason: string }
  | { readonly type: "error"; readonly vmId: string; readonly error: RelationshipError };
