import type { Test } from "tap";
import type { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import type { LanePool } from "#lib/transport/lane-pool.js";
import type { PeerServer, PeerServerOptions } from "#lib/transport/peer-server.js";
import {
  connectTo,
  generatedSource,
  HashingReplica,
  newHeader,
  newLanes,
  startServer,
  type TestPki,
  testPki,
  until,
} from "./hosts.js";

/** Two hosts on loopback for all tests of a file. */
export class HostPair {
  readonly pki: TestPki;
  readonly lanes: LanePool;
  readonly server: PeerServer;
  readonly client: HttpsReplicaEndpoint;
  /** What the server serves; a test may have one of its own. */
  replica: HashingReplica;
  header = newHeader();

  private constructor(pki: TestPki, replica: HashingReplica, server: PeerServer) {
    this.pki = pki;
    this.replica = replica;
    this.server = server;
    this.lanes = newLanes();
    this.client = connectTo(server, pki, this.lanes);
  }

  static async start(t: Test, options: Partial<PeerServerOptions> = {}): Promise<HostPair> {
    const pki = await testPki();
    const replica = new HashingReplica();
    const replicaFor = () => pair.replica;
    const server = await startServer(pki, replica, { replicaFor, ...options });
    const pair = new HostPair(pki, replica, server);
    t.teardown(async () => {
      await pair.client.close();
      await pair.lanes.close();
      await server.close();
      await pki.remove();
    });
    return pair;
  }

  get replicaUrl(): string {
    return `https://127.0.0.1:${this.server.port}`;
  }

  /** Each test has a replica and a delta of its own; whatever it did, the server goes on serving. */
  outlives(t: Test): void {
    t.beforeEach(async () => {
      this.replica = new HashingReplica();
      this.header = newHeader();
      await this.client.openDelta(this.header);
    });
    t.afterEach(async () => {
      const small = { seed: 1, pieceBytes: 4096, pieceCount: 1 };
      await this.client.openDelta(this.header);
      await this.client.putSegment(generatedSource(this.header.deltaId, 9, small));
      await until(() => this.replica.openSlots.size === 0);
    });
  }

  /** For a connection to the server without any client of ours. */
  rawTls() {
    const { certificatePem: cert, keyPem: key, authorityPem: ca } = this.pki.primary;
    return { cert, key, ca, host: "127.0.0.1", port: this.server.port };
  }
}
