import type { Clock } from "../model/clock.js";
import type { ReplicatedVm } from "../model/disk.js";
import type { TidemarkError } from "../model/errors.js";
import type { HealingReport } from "../model/relationship.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { TargetChanges, VmTracker } from "../model/vm-tracker.js";
import type { ApplicationPoints } from "./application-points.js";
import type { GateTimeBox } from "./gate-time-box.js";
import type { GroupMember } from "./group-barrier.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import type { ReplicationLimits } from "./replication-limits.js";

/** What the steps of one relationship work with. */
export interface RelationshipContext {
  readonly vm: ReplicatedVm;
  readonly targetId: string;
  readonly tracker: VmTracker;
  readonly endpoint: ReplicaEndpoint;
  readonly journal: RelationshipJournal;
  readonly clock: Clock;
  /** In [0, 1); for jitter. */
  readonly random: () => number;
  readonly limits: ReplicationLimits;
  /** Of the next cut's segments: what the limits and the line allow. */
  readonly segmentBytes: () => number;
  readonly timeBox: GateTimeBox;
  readonly applications: ApplicationPoints;
  /** The VM's place in its consistency group; null when it is in none. */
  readonly group: () => GroupMember | null;
  /** Changes that could not be given back yet. */
  readonly orphans: Set<TargetChanges>;
  /** Something failed and is being tried again. */
  readonly onRetry: (error: TidemarkError) => void;
  /** The replica does not have the VM any more: guests may reach it here before that is noted. */
  readonly onReturn: (note: () => Promise<void>) => Promise<void>;
  /** What the comparison of suspect blocks has found so far. */
  readonly onHealing: (report: HealingReport) => void;
  readonly onStagingProgress: (sentBytes: number, totalBytes: number) => void;
}
