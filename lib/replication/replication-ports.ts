import type { ApplicationFreezer, FreezeWay } from "../model/application-freezer.js";
import type { Clock } from "../model/clock.js";
import type { DiskGeometry } from "../model/disk.js";
import type { WritableMedium } from "../model/initial-media.js";
import type { ToLocalTime } from "../model/local-time.js";
import type { RelationshipRecord } from "../model/relationship.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { StateStore } from "../model/state-store.js";
import type { TransferSettings } from "../model/transfer-settings.js";
import type { CutTogether, VmTracker } from "../model/vm-tracker.js";
import type { ReplicationLimits } from "./replication-limits.js";

export interface OpenedReplica extends ReplicaEndpoint, Partial<AsyncDisposable> {
  /** A larger segment would travel in a burst that its line is not meant to take now. */
  largestSegmentBytes?(): number;
}

export interface OpenedVm {
  readonly name: string;
  readonly tracker: VmTracker;
  /** The disks that are not replicated. They may be resized. Default: none. */
  readonly excludedDisks?: () => readonly DiskGeometry[];
}

/** What the engine needs from whoever wires it. */
export interface ReplicationPorts {
  readonly store: StateStore;
  readonly clock: Clock;
  /** In [0, 1). Default Math.random. */
  readonly random?: () => number;
  readonly limits?: Partial<ReplicationLimits>;
  /** How much may go on at once, of all relationships together; may change. */
  readonly transfers?: () => Pick<TransferSettings, "parallelCycles" | "parallelCopies">;
  /** The VM's tracked disks stay the caller's to close. Asked again when they are others, and after a failure. */
  openVm(vmId: string): Promise<OpenedVm>;
  /** The medium that the record's first copy is written to. Absent: none can be. */
  openMedium?(record: RelationshipRecord): Promise<WritableMedium>;
  /**
   * Lets guests reach the VM's disks on this host, or keeps them from it: then none writes
   * to them any more. Durable when it resolves, and idempotent. Absent: they are the
   * caller's to keep away.
   */
  setServed?(vmId: string, isServed: boolean): Promise<void>;
  /** What freezes a VM's applications. Absent: no point is application-consistent. */
  openFreezer?(way: FreezeWay): ApplicationFreezer;
  /** For VMs of openVm(), all of them there. */
  readonly cutTogether: CutTogether;
  /**
   * At the address that the settings name now; the others may change meanwhile. Disposed of
   * when the relationship stops or is removed, or the address changes. Must not connect yet.
   */
  openReplica(settings: () => RelationshipSettings): OpenedReplica;
  /** For daily windows. Default: this machine's time zone. */
  readonly toLocalTime?: ToLocalTime;
}
