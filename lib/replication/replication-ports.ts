import type { Clock } from "../model/clock.js";
import type { RelationshipSettings } from "../model/relationship.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { StateStore } from "../model/state-store.js";
import type { CutTogether, VmTracker } from "../model/vm-tracker.js";
import type { ReplicationLimits } from "./replication-limits.js";

/** What the engine needs from whoever wires it. */
export interface ReplicationPorts {
  readonly store: StateStore;
  readonly clock: Clock;
  /** In [0, 1). Default Math.random. */
  readonly random?: () => number;
  readonly limits?: Partial<ReplicationLimits>;
  /** The VM's name and tracked disks, which stay the caller's to close. Asked again after a failure. */
  openVm(vmId: string): Promise<{ readonly name: string; readonly tracker: VmTracker }>;
  /** For VMs of openVm(), all of them there. */
  readonly cutTogether: CutTogether;
  /** Disposed of when the relationship stops or is removed. Must not connect yet. */
  openReplica(settings: RelationshipSettings): ReplicaEndpoint & Partial<AsyncDisposable>;
}
