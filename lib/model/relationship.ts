import type { Cut } from "./delta.js";
import type { Generation } from "./disk.js";
import type { GroupCut } from "./group-cut.js";
import type { Lineage, LineageEntry } from "./lineage.js";
import type { PauseSummary } from "./pause-histogram.js";
import {
  type NewRelationshipSettings,
  readSettings,
  type RelationshipSettings,
} from "./relationship-settings.js";
import type { ComparisonReport } from "./replica-comparison.js";
import type { SuspicionCause } from "./suspicion.js";

export const RELATIONSHIP_STATES = [
  "ready",
  "initial-replication",
  "replicating",
  "resynchronization-required",
  "resynchronizing",
  "handing-over",
  "failed-over",
  "suspended",
  "error",
] as const;
export type RelationshipState = (typeof RELATIONSHIP_STATES)[number];

export type Health = "normal" | "warning" | "critical";

/** The note made durable before a commit is asked for. */
export interface InDoubt {
  readonly deltaId: string;
  readonly attempt: number;
  readonly digest: string;
  /** What it was cut of. */
  readonly disks?: readonly CutDisk[] | undefined;
}

/** A disk of the VM at a cut. */
export interface CutDisk {
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly isExcluded: boolean;
}

/** How the first copy gets to the replica, other than over the network. */
export type FirstCopy =
  | {
      readonly by: "medium";
      readonly mediaId: string;
      /** The medium's folder on this host. */
      readonly directory: string;
      /** "written": it waits for being imported. */
      readonly stage: "writing" | "written";
    }
  /** From an existing disk at the replica, of which only what differs travels. */
  | { readonly by: "seed" }
  /** The host that had the VM before becomes its replica, with its disks as they stand. */
  | {
      readonly by: "return";
      readonly lineage: Lineage;
      /**
       * Its newest point when the VM was failed over: what the VM has not of it is marked.
       * Undefined: not known.
       */
      readonly formerHeadId?: string | undefined;
    };

/** What must survive a restart; one document of the state store. */
export interface RelationshipRecord {
  readonly settings: RelationshipSettings;
  readonly state: RelationshipState;
  readonly generation: Generation;
  /** This host in the VM's lineage. Absent: by the generation that it was enabled with. */
  readonly holderId?: string | undefined;
  /** A planned failover: what the replica is asked to become. Its holder is this host to take it back. */
  readonly handOver?: LineageEntry | undefined;
  /** The replica's head as last acknowledged. */
  readonly headPointId: string | null;
  readonly cutSequence: number;
  readonly inDoubt: InDoubt | null;
  readonly stagingSessionId: string | null;
  /** Everything allocated was marked pending for the first copy. */
  readonly allocationMarked: boolean;
  /** The last comparison with the replica that came to its end. */
  readonly lastComparison?: ComparisonReport | undefined;
  /** Absent: over the network. */
  readonly firstCopy?: FirstCopy | undefined;
  /** When initial replication is to begin; null: when an administrator says so. */
  readonly initialStartAtMs: number | null;
  /** An administrator wants what is suspect compared, whatever the policy. */
  readonly isResyncOrdered: boolean;
  /** What the head was cut of; undefined: not known. */
  readonly headDisks?: readonly CutDisk[] | undefined;
  /** Another primary made the head: it may hold disks that the replica is not told of any more. */
  readonly isHeadForeign?: boolean | undefined;
  /**
   * The disks whose marks for the target say all that it lacks. Undefined: all there were when
   * this was noted by a version that knew no other.
   */
  readonly markedDiskIds?: readonly string[] | undefined;
  /** The last application-consistent cut that the replica has acknowledged. */
  readonly applicationConsistentAtMs?: number | undefined;
  /** Disks that left, and of which the replica's head or staging session may hold something. */
  readonly departedDiskIds?: readonly string[] | undefined;
  /** Its removal was begun: all that is left of it is to be removed. */
  readonly isEnding?: boolean | undefined;
}

export function holderIdOf({ holderId, generation }: RelationshipRecord): string {
  return holderId ?? generation.id;
}

/** The VM is its replica's, or is being handed over to it. */
export function isGivenAway({ state }: Pick<RelationshipRecord, "state">): boolean {
  return state === "failed-over" || state === "handing-over";
}

/** As noted by this version or by the one before. */
export function readRecord(noted: unknown): RelationshipRecord {
  const record = noted as RelationshipRecord & { readonly settings: NewRelationshipSettings };
  const added = { initialStartAtMs: 0, isResyncOrdered: false };
  return { ...added, ...record, settings: readSettings(record.settings) };
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
  readonly consistency: Cut["consistency"];
  readonly pointId: string | null;
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly changedBytes: number;
  /** By the disk's name; drained content counts with its pass. */
  readonly diskChangedBytes?: Readonly<Record<string, number>> | undefined;
  readonly sentBytes: number;
  /** Of what changed: what did not travel because the replica was known to hold it. */
  readonly unchangedBytes: number;
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

/** How it goes with the application-consistent points of a VM. */
export interface ApplicationConsistencyStatus {
  /** The last one's cut; null: there is none yet. */
  readonly lastPointAtMs: number | null;
  /** Why the last try gave none, and when the next one is. */
  readonly lastError: RelationshipError | null;
  /** The applications may be frozen for so long already: they could not be thawed yet. */
  readonly thaw: { readonly sinceMs: number; readonly error: RelationshipError } | null;
}

/** How the first copy is made, and what it waits for. */
export interface FirstCopyStatus {
  readonly by: "network" | FirstCopy["by"];
  readonly waitsFor: "import" | "seed" | null;
  /** The medium's folder on this host. */
  readonly directory: string | null;
}

/** How much of how much is at the replica. */
export interface InitialProgress {
  readonly sentBytes: number;
  readonly totalBytes: number;
  /** Of the last half minute; null: nothing has moved yet. */
  readonly bytesPerSecond: number | null;
  readonly remainingMs: number | null;
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
  /** With the replica, by order: the one under way, else the last. */
  readonly comparison: ComparisonReport | null;
  readonly lagMs: number | null;
  readonly lastCycle: CycleReport | null;
  readonly lastError: RelationshipError | null;
  /** Null: none is asked for. */
  readonly applicationConsistency: ApplicationConsistencyStatus | null;
  /** How long this VM's gates were closed, since the start of the service. */
  readonly pauses: PauseSummary;
  /** Until there is a recovery point. */
  readonly firstCopy: FirstCopyStatus | null;
  /** What the state waits for: the scheduled begin, the window. Null: nothing, or an administrator. */
  readonly waitsUntilMs: number | null;
  readonly initialProgress: InitialProgress | null;
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

/** Which relationship an event is of. */
export interface EventSource {
  readonly vmId: string;
  /** Of one of the VM's further targets. Absent: its first one. */
  readonly targetId?: string | undefined;
}

/** What the engine tells whoever listens (events, metrics, the demonstration). */
export type ReplicationEvent = EventSource & RelationshipNews;

export type RelationshipNews =
  | { readonly type: "state"; readonly state: RelationshipState }
  | {
      readonly type: "initial-progress";
      readonly sentBytes: number;
      readonly totalBytes: number;
    }
  | { readonly type: "healing"; readonly report: HealingReport }
  | { readonly type: "cycle"; readonly report: CycleReport }
  | { readonly type: "missed"; readonly count: number; readonly reason: string }
  /** A point was to be application-consistent, and is not; or its applications were not thawed. */
  | { readonly type: "freeze-failed"; readonly error: RelationshipError }
  | { readonly type: "error"; readonly error: RelationshipError };
