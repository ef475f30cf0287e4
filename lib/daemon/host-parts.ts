import type { PointCopies } from "../replica/point-copies.js";
import type { PointExports } from "../replica/point-exports.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { TestFailovers } from "../replica/test-failovers.js";
import type { Verifications } from "../replica/verifications.js";
import type { RecoveryPlans } from "../replication/recovery-plans.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";
import type { StatisticsRecorder } from "../replication/statistics-recorder.js";
import type { PeerServer } from "../transport/peer-server.js";
import type { ExtendedVms } from "./extended-vms.js";
import type { Failovers } from "./failovers.js";
import type { FirstCopies } from "./first-copies.js";
import type { GroupFailovers } from "./group-failovers.js";
import type { HostConfiguration } from "./host-configuration.js";
import type { HostSettings } from "./host-settings.js";
import type { HostTransfers } from "./host-transfers.js";
import type { LiveVms } from "./live/live-vms.js";
import type { Maintenance } from "./maintenance.js";
import type { Peers } from "./peers.js";
import type { PrimaryContacts } from "./primary-contacts.js";
import type { PrimaryVms } from "./primary-vms.js";
import type { Retention } from "./retention.js";

/** What a running host is made of. */
export interface HostParts {
  readonly configuration: HostConfiguration;
  readonly settings: HostSettings;
  /** Where replicas are kept. */
  readonly replicaRoot: string;
  readonly version: string;
  readonly ioEngine: string;
  readonly startedAtMs: number;
  readonly vms: PrimaryVms;
  readonly live: LiveVms;
  readonly engine: ReplicationEngine;
  readonly firstCopies: FirstCopies;
  readonly failovers: Failovers;
  readonly groupFailovers: GroupFailovers;
  readonly plans: RecoveryPlans;
  readonly extended: ExtendedVms;
  readonly contacts: PrimaryContacts;
  readonly maintenance: Maintenance;
  readonly statistics: StatisticsRecorder;
  readonly transfers: HostTransfers;
  readonly replicaStore: ReplicaStore;
  readonly retention: Retention;
  readonly pointExports: PointExports;
  readonly testFailovers: TestFailovers;
  readonly pointCopies: PointCopies;
  readonly verifications: Verifications;
  readonly peers: Peers;
  readonly peerServer: PeerServer | null;
}
