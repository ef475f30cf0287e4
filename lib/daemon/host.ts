import { EmbeddedStateStore } from "../broker/embedded-state-store.js";
import { ApiServer } from "../management/api-server.js";
import type { StateStore } from "../model/state-store.js";
import { PointExports } from "../replica/point-exports.js";
import { ReplicaStore } from "../replica/replica-store.js";
import { openSegmentSink } from "../replica/segment-sink.js";
import { ReplicationEngine } from "../replication/replication-engine.js";
import { systemClock } from "../replication/system-clock.js";
import { hostFiles } from "../security/pki.js";
import { loadTlsIdentity, type TlsIdentity } from "../security/tls-identity.js";
import { binding } from "../tracking/binding.js";
import { TrackedVm } from "../tracking/tracked-vm.js";
import { probeIoEngine } from "../tracking/probe-io-engine.js";
import { HttpsReplicaEndpoint } from "../transport/https-replica-client.js";
import { LanePool } from "../transport/lane-pool.js";
import { PeerServer } from "../transport/peer-server.js";
import { type HostConfiguration, HostPaths, readConfiguration } from "./host-configuration.js";
import type { HostParts } from "./host-parts.js";
import { LocalHostService } from "./local-host-service.js";
import { PrimaryVms } from "./primary-vms.js";
import { Retention } from "./retention.js";

const RETENTION_CHECK_INTERVAL_MS = 10_000;

export type HostLog = (message: string) => void;

/**
 * One Tidemark host: primary of some VMs, replica of others. start() resolves
 * when everything is served; close() ends it in the opposite order, with the
 * guests' paths last.
 */
export class Host implements AsyncDisposable {
  readonly paths: HostPaths;
  readonly parts: HostParts;
  readonly #closers: (() => Promise<void>)[];

  private constructor(paths: HostPaths, parts: HostParts, closers: (() => Promise<void>)[]) {
    this.paths = paths;
    this.parts = parts;
    this.#closers = closers;
  }

  static async start(directory: string, version: string, log: HostLog): Promise<Host> {
    const paths = new HostPaths(directory);
    const configuration = await readConfiguration(paths);
    const identity = await loadTlsIdentity(hostFiles(paths.pki));
    const starting = new HostStart(paths, configuration, identity, log);
    try {
      const parts = await starting.run();
      const api = await ApiServer.start(new LocalHostService(parts, version), paths.apiSocket);
      starting.closers.push(() => api.close());
      return new Host(paths, parts, starting.closers);
    } catch (thrown) {
      await closeAll(starting.closers);
      throw thrown;
    }
  }

  async close(): Promise<void> {
    await closeAll(this.#closers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Last opened, first closed; each is tried, the first failure is thrown. */
async function closeAll(closers: (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
    await close().catch((thrown: unknown) => failures.push(thrown));
  }
  if (failures.length > 0) throw failures[0];
}

class HostStart {
  readonly closers: (() => Promise<void>)[] = [];
  readonly #paths: HostPaths;
  readonly #configuration: HostConfiguration;
  readonly #identity: TlsIdentity;
  readonly #log: HostLog;

  constructor(
    paths: HostPaths,
    configuration: HostConfiguration,
    identity: TlsIdentity,
    log: HostLog,
  ) {
    this.#paths = paths;
    this.#configuration = configuration;
    this.#identity = identity;
    this.#log = log;
  }

  async run(): Promise<HostParts> {
    const ioEngine = await probeIoEngine();
    const store = this.#keep(EmbeddedStateStore.open(this.#paths.stateDatabase));
    const replicaStore = await this.#openReplicaStore();
    const pointExports = replicaStore === null ? null : await this.#openExports(replicaStore);
    if (replicaStore !== null) this.#startRetention(replicaStore);
    const peerServer = replicaStore === null ? null : await this.#startPeerServer(replicaStore);
    const vms = await this.#startVms(store);
    const engine = await this.#startEngine(store, vms);
    return {
      configuration: this.#configuration,
      startedAtMs: Date.now(),
      ioEngine,
      vms,
      engine,
      replicaStore,
      pointExports,
      peerServer,
    };
  }

  #keep<T extends { close(): Promise<void> }>(opened: T): T {
    this.closers.push(() => opened.close());
    return opened;
  }

  async #openReplicaStore(): Promise<ReplicaStore | null> {
    const { replicaRoot } = this.#configuration;
    if (replicaRoot === null) return null;
    const root = this.#paths.replicaRoot(replicaRoot);
    return this.#keep(
      await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink }),
    );
  }

  async #openExports(store: ReplicaStore): Promise<PointExports> {
    return this.#keep(
      await PointExports.open({
        store,
        socketDirectory: this.#paths.nbdSockets,
        scratchDirectory: this.#paths.scratch,
        onWarning: this.#log,
      }),
    );
  }

  /** After the exports: what they serve must be known before anything is merged. */
  #startRetention(store: ReplicaStore): void {
    const { retainPoints } = this.#configuration;
    const checkIntervalMs = RETENTION_CHECK_INTERVAL_MS;
    this.#keep(new Retention({ store, retainPoints, checkIntervalMs, onWarning: this.#log }));
  }

  async #startPeerServer(store: ReplicaStore): Promise<PeerServer> {
    const { host, port } = this.#configuration.peers;
    const server = await PeerServer.start({
      workerUrl: new URL("./ingest-worker.js", import.meta.url),
      host,
      port,
      openSocket: (address, at) => binding.reusePortSocket(address, at),
      tls: this.#identity.material,
      replicaFor: () => store,
      onWarning: this.#log,
    });
    return this.#keep(server);
  }

  async #startVms(store: StateStore): Promise<PrimaryVms> {
    const vms = this.#keep(
      new PrimaryVms({
        store,
        socketDirectory: this.#paths.nbdSockets,
        spillDirectory: this.#paths.spill,
        bitmapDirectory: this.#paths.bitmaps,
        durability: this.#configuration.durability,
        capture: this.#configuration.capture,
        onNotice: this.#log,
      }),
    );
    await vms.start();
    return vms;
  }

  async #startEngine(store: StateStore, vms: PrimaryVms): Promise<ReplicationEngine> {
    const lanes = this.#keep(
      new LanePool({ workerUrl: new URL("./lane-worker.js", import.meta.url) }),
    );
    const engine = new ReplicationEngine({
      store,
      clock: systemClock,
      cutTogether: (members) => TrackedVm.checkpointTogether(members),
      openVm: async (vmId) => {
        const { definition, tracker } = await vms.served(vmId);
        return { name: definition.name, tracker };
      },
      openReplica: (settings) =>
        new HttpsReplicaEndpoint({
          replicaUrl: settings.replicaUrl,
          tls: () => this.#identity.material,
          lanes,
          compressionLevel: settings.compressionLevel,
        }),
    });
    this.#keep(engine);
    await engine.start();
    return engine;
  }
}
