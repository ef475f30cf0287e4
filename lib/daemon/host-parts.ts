import type { PointExports } from "../replica/point-exports.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";
import type { PeerServer } from "../transport/peer-server.js";
import type { HostConfiguration } from "./host-configuration.js";
import type { PrimaryVms } from "./primary-vms.js";

/** What a running host is made of. */
export interface HostParts {
  readonly configuration: HostConfiguration;
  readonly ioEngine: string;
  readonly startedAtMs: number;
  readonly vms: PrimaryVms;
  readonly engine: ReplicationEngine;
  readonly replicaStore: ReplicaStore | null;
  readonly pointExports: PointExports | null;
  readonly peerServer: PeerServer | null;
}
