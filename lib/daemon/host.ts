import { EmbeddedStateStore } from "../broker/embedded-state-store.js";
import { ScriptFreezer } from "../hypervisor/script-freezer.js";
import { ApiServer } from "../management/api-server.js";
import { toTidemarkError } from "../model/errors.js";
import type { StateStore } from "../model/state-store.js";
import { PointExports } from "../replica/point-exports.js";
import { ReplicaStore } from "../replica/replica-store.js";
import { openSegmentSink } from "../replica/segment-sink.js";
import { DEFAULT_TEST_FAILOVERS } from "../replica/test-failovers.js";
import { DEFAULT_MONITORING } from "../replication/monitoring-window.js";
import { replicatedVmIds } from "../replication/relationship-journal.js";
import { ReplicationEngine } from "../replication/replication-engine.js";
import { StatisticsRecorder } from "../replication/statistics-recorder.js";
import { systemClock } from "../replication/system-clock.js";
import { hostFiles } from "../security/host-files.js";
import { loadTlsIdentity, type TlsIdentity } from "../security/tls-identity.js";
import { binding } from "../tracking/binding.js";
import { probeIoEngine } from "../tracking/probe-io-engine.js";
import { HttpsReplicaEndpoint } from "../transport/https-replica-client.js";
import { LanePool } from "../transport/lane-pool.js";
import { PeerServer } from "../transport/peer-server.js";
import { ExtendedVms } from "./extended-vms.js";
import { Failovers } from "./failovers.js";
import { FirstCopies } from "./first-copies.js";
import { FormerVms } from "./former-vms.js";
import { type HostConfiguration, HostPaths, readConfiguration } from "./host-configuration.js";
import { greetPeers } from "./greet-peers.js";
import { HostTransfers } from "./host-transfers.js";
import type { HostParts } from "./host-parts.js";
import { HostSettings } from "./host-settings.js";
import { localHostService } from "./local-host-service.js";
import { GuardedTracker } from "./live/guarded-tracker.js";
import { LiveVms } from "./live/live-vms.js";
import { Maintenance } from "./maintenance.js";
import {
  type FailoverOrders,
  type FailoverOrdersOptions,
  openFailoverOrders,
} from "./open-failover-orders.js";
import { openReplicaCare, type ReplicaCare, type ReplicaCareOptions } from "./open-replica-care.js";
import { openStatistics } from "./open-statistics.js";
import { Peers } from "./peers.js";
import { PrimaryContacts } from "./primary-contacts.js";
import { PrimaryVms } from "./primary-vms.js";
import { refuseCancelling } from "./refuse-cancelling.js";
import { excludedDisksOf } from "./served-vm.js";
import { WHILE_STARTING } from "./while-starting.js";

/** More than are ever under way: the host's transfer settings limit them. */
const SEGMENTS_PER_LANE = 64;

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
    const starting = new HostStart(paths, configuration, identity, version, log);
    try {
      const parts = await starting.run();
      const api = await ApiServer.start(localHostService(parts), paths.apiSocket);
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

interface EngineParts {
  readonly vms: PrimaryVms;
  readonly live: LiveVms;
  readonly firstCopies: FirstCopies;
  readonly extended: ExtendedVms;
  readonly replicaStore: ReplicaStore;
  readonly lanes: LanePool;
  readonly transfers: HostTransfers;
  readonly statistics: StatisticsRecorder;
}

class HostStart {
  readonly closers: (() => Promise<void>)[] = [];
  readonly #contacts = new PrimaryContacts();
  readonly #paths: HostPaths;
  readonly #configuration: HostConfiguration;
  readonly #identity: TlsIdentity;
  readonly #version: string;
  readonly #log: HostLog;
  #engine: ReplicationEngine | null = null;

  constructor(
    paths: HostPaths,
    configuration: HostConfiguration,
    identity: TlsIdentity,
    version: string,
    log: HostLog,
  ) {
    this.#paths = paths;
    this.#configuration = configuration;
    this.#identity = identity;
    this.#version = version;
    this.#log = log;
  }

  async run(): Promise<HostParts> {
    const ioEngine = await probeIoEngine();
    const store = this.#keep(EmbeddedStateStore.open(this.#paths.stateDatabase));
    const settings = await this.#openSettings(store);
    const replicaStore = await this.#openReplicaStore();
    const pointExports = await this.#openExports(replicaStore);
    const peerServer = await this.#startPeerServer(replicaStore, settings);
    const extended = this.#newExtended(replicaStore);
    const failovers = this.#keep(this.#newFailovers(replicaStore, extended, () => vms));
    const vms = await this.#startVms(store, failovers);
    const live = this.#attend(vms);
    await this.#startFailovers(failovers, extended);
    const lanes = this.#startLanes();
    const statistics = await this.#startStatistics(store, vms, settings);
    const care = await this.#openCare(replicaStore, { pointExports, statistics, settings });
    const transfers = await HostTransfers.open(store, systemClock);
    const firstCopies = this.#openFirstCopies(replicaStore);
    const engineParts = { statistics, transfers, lanes, firstCopies, extended, replicaStore };
    const engine = await this.#startEngine(store, { vms, live, ...engineParts });
    const maintenance = await Maintenance.open(store, engine, this.#log);
    const peers = new Peers(() => this.#identity.material, lanes);
    const replication = { vms, live, engine, firstCopies, failovers, statistics, transfers };
    const kept = { ...care, extended, replicaStore, pointExports, peerServer };
    const contacts = this.#contacts;
    const known = { ...this.#ownFacts(), contacts, settings, ioEngine, maintenance, peers };
    const opened = { ...replication, ...kept, ...known };
    return { ...opened, ...(await this.#openOrders(store, opened)) };
  }

  #ownFacts() {
    const [configuration, replicaRoot] = [this.#configuration, this.#replicaRoot];
    return { configuration, replicaRoot, version: this.#version, startedAtMs: Date.now() };
  }

  #openCare(
    store: ReplicaStore,
    parts: Pick<ReplicaCareOptions, "pointExports" | "statistics" | "settings">,
  ): Promise<ReplicaCare> {
    return openReplicaCare({
      ...parts,
      store,
      configuration: this.#configuration,
      replicaRoot: this.#replicaRoot,
      socketDirectory: this.#paths.nbdSockets,
      log: this.#log,
      keep: (opened) => this.#keep(opened),
    });
  }

  #openOrders(
    store: StateStore,
    parts: Omit<FailoverOrdersOptions, "store" | "log" | "keep">,
  ): Promise<FailoverOrders> {
    return openFailoverOrders({
      ...parts,
      store,
      log: this.#log,
      keep: (opened) => this.#keep(opened),
    });
  }

  #startLanes(): LanePool {
    const workerUrl = new URL("./lane-worker.js", import.meta.url);
    return this.#keep(new LanePool({ workerUrl, segmentsPerLane: SEGMENTS_PER_LANE }));
  }

  #keep<T extends { close(): Promise<void> }>(opened: T): T {
    this.closers.push(() => opened.close());
    return opened;
  }

  get #replicaRoot(): string {
    return this.#paths.replicaRoot(this.#configuration.replicaRoot);
  }

  #openSettings(store: StateStore): Promise<HostSettings> {
    return HostSettings.open(store, {
      acceptsReplicas: this.#configuration.replicaRoot !== null,
      monitoring: DEFAULT_MONITORING,
      testFailovers: DEFAULT_TEST_FAILOVERS,
    });
  }

  async #openReplicaStore(): Promise<ReplicaStore> {
    const root = this.#replicaRoot;
    const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
    store.standBeside(WHILE_STARTING);
    store.watchSuccessions(WHILE_STARTING);
    return this.#keep(store);
  }

  async #openExports(store: ReplicaStore): Promise<PointExports> {
    return this.#keep(
      await PointExports.open({
        store,
        socketDirectory: this.#paths.nbdSockets,
        scratchDirectory: this.#paths.scratch,
        freeSpaceFloorBytes: this.#configuration.freeSpaceFloorBytes,
        onWarning: this.#log,
      }),
    );
  }

  /** A host that accepts nothing listens too, to say so; it does not insist on its port. */
  async #startPeerServer(store: ReplicaStore, settings: HostSettings): Promise<PeerServer | null> {
    const { hostName, peers } = this.#configuration;
    const { host, port } = peers;
    const { acceptsReplicas } = settings.values;
    const [version, replicaRoot, contacts] = [this.#version, this.#replicaRoot, this.#contacts];
    const starting = PeerServer.start({
      ...greetPeers({ hostName, version, settings, store, replicaRoot, contacts }),
      workerUrl: new URL("./ingest-worker.js", import.meta.url),
      host,
      port,
      openSocket: (address, at) => binding.reusePortSocket(address, at),
      tls: this.#identity.material,
      ...(acceptsReplicas ? {} : { workerCount: 1 }),
      onWarning: this.#log,
    });
    const server = await starting.catch((thrown: unknown) => {
      if (acceptsReplicas) throw thrown;
      this.#log(`Peers that ask are not answered: ${toTidemarkError(thrown).message}`);
      return null;
    });
    return server === null ? null : this.#keep(server);
  }

  /** Before what it works on: what is under way there ends first. */
  #openFirstCopies(store: ReplicaStore): FirstCopies {
    const keyDirectory = this.#paths.mediaKeys;
    const privatePem = () => this.#identity.material.keyPem;
    return this.#keep(new FirstCopies({ keyDirectory, store, privatePem }));
  }

  #newExtended(store: ReplicaStore): ExtendedVms {
    const extended: ExtendedVms = new ExtendedVms({
      store,
      onOther: (vmId) => this.#whileHalted(vmId, () => extended.letGo(vmId)),
      onWarning: this.#log,
    });
    return extended;
  }

  /** `vms` are asked for when all is started. */
  #newFailovers(store: ReplicaStore, extended: ExtendedVms, vms: () => PrimaryVms): Failovers {
    return new Failovers({
      store,
      directory: this.#paths.failovers,
      vms,
      refuseCancelling: (vmId) => refuseCancelling(this.#engine, vms().find(vmId)),
      whileHalted: (vmId, work) =>
        this.#whileHalted(vmId, async () => {
          // What the VM writes from here on, or what of that is dropped, is not marked there.
          await extended.forget(vmId);
          await work();
        }),
      onWarning: this.#log,
    });
  }

  /** While nothing of the VM is being replicated from here. */
  #whileHalted(vmId: string, work: () => Promise<void>): Promise<void> {
    return this.#engine?.changeDisks(vmId, work) ?? work();
  }

  /** What runs here is not replicated on from its replica: that begins after it. */
  async #startFailovers(failovers: Failovers, extended: ExtendedVms): Promise<void> {
    this.closers.push(() => failovers.rest());
    await failovers.start();
    await this.#keep(extended).start();
  }

  async #startVms(store: StateStore, failovers: Failovers): Promise<PrimaryVms> {
    await failovers.load();
    const vms = this.#keep(
      new PrimaryVms({
        store,
        socketDirectory: this.#paths.nbdSockets,
        spillDirectory: this.#paths.spill,
        bitmapDirectory: this.#paths.bitmaps,
        durability: this.#configuration.durability,
        capture: this.#configuration.capture,
        onNotice: this.#log,
        openPromoted: (vm, disk) => failovers.openDisk(vm, disk),
      }),
    );
    await vms.start();
    return vms;
  }

  #attend(vms: PrimaryVms): LiveVms {
    const live = this.#keep(new LiveVms({ vms, onNotice: this.#log }));
    live.start();
    return live;
  }

  /** Closed after the engine, whose last events count too. */
  async #startStatistics(
    state: StateStore,
    vms: PrimaryVms,
    settings: HostSettings,
  ): Promise<StatisticsRecorder> {
    const path = this.#paths.statisticsDatabase;
    const store = this.#keep(await openStatistics(path, this.#log));
    const ofPrimaries = vms.definitions().map(({ vmId }) => vmId);
    const vmIds = [...new Set([...ofPrimaries, ...(await replicatedVmIds(state))])];
    const monitoring = () => settings.values.monitoring;
    const options = { store, clock: systemClock, monitoring, onWarning: this.#log };
    return this.#keep(await StatisticsRecorder.open(options, vmIds));
  }

  async #startEngine(
    store: StateStore,
    { vms, live, lanes, transfers, statistics, firstCopies, extended, replicaStore }: EngineParts,
  ): Promise<ReplicationEngine> {
    const engine = new ReplicationEngine({
      store,
      clock: systemClock,
      transfers: () => transfers.settings,
      cutTogether: (members) => GuardedTracker.checkpointTogether(members),
      openVm: async (vmId) => {
        const definition = vms.find(vmId);
        if (definition === null) return extended.open(vmId);
        const served = await vms.served(vmId);
        const tracker = live.guarded(definition, served.tracker);
        return { name: definition.name, tracker, excludedDisks: () => excludedDisksOf(served) };
      },
      openFreezer: (way) => new ScriptFreezer(way),
      setServed: async (vmId, isServed) => {
        if (vms.find(vmId) !== null) await vms.setServed(vmId, isServed);
      },
      openMedium: (record) => firstCopies.openMedium(record),
      openReplica: (settings) =>
        new HttpsReplicaEndpoint({
          replicaUrl: settings().replicaUrl,
          proxyUrl: settings().proxyUrl ?? null,
          tls: () => this.#identity.material,
          lanes: transfers.paced(lanes, settings),
          compression: () => settings().compression,
        }),
    });
    engine.subscribe((event) => statistics.listen(event));
    this.#engine = this.#keep(engine);
    await engine.start();
    await extended.keepOnly((vmId) => engine.has(vmId));
    replicaStore.standBeside(new FormerVms(vms, engine));
    await firstCopies.forgetKeysBut(engine.mediaBeingWritten());
    return engine;
  }
}
