/** An engine with everything in memory and time by hand, for tests of one rule each. */
import { type ToLocalTime, WEEKDAYS } from "#lib/model/local-time.js";
import type { ApplicationFreezer } from "#lib/model/application-freezer.js";
import { MemoryApplicationFreezer, newMemoryApplications } from "#lib/model/memory-freezer.js";
import type { DiskGeometry } from "#lib/model/disk.js";
import type { RelationshipRecord, ReplicationEvent } from "#lib/model/relationship.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import type { ReplicationLimits } from "#lib/replication/replication-limits.js";
import { decodeSegment, encodeContents } from "../contracts/segment-bytes.js";
import { override } from "./override.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";
import { VirtualClock } from "./simulation/virtual-clock.js";

const inUtc: ToLocalTime = (nowMs) => {
  const date = new Date(nowMs);
  return {
    weekday: WEEKDAYS[date.getUTCDay()] ?? "sun",
    minuteOfDay: date.getUTCHours() * 60 + date.getUTCMinutes(),
  };
};

export interface BenchOptions {
  readonly limits?: Partial<ReplicationLimits>;
  readonly captureBudgetBytes?: number;
  /** Of another host than the bench's own replica; null: it is that one. */
  readonly endpointAt?: (replicaUrl: string) => ReplicaEndpoint | null;
}

export class Bench {
  readonly clock = new VirtualClock();
  readonly replica = new MemoryReplica(decodeSegment);
  readonly store = new MemoryStateStore();
  readonly tracker: MemoryVmTracker;
  readonly events: ReplicationEvent[] = [];
  /** What the engine calls instead of the reference implementations. */
  readonly endpointParts: Partial<ReplicaEndpoint> = {};
  readonly trackerParts: Partial<VmTracker> = {};
  readonly storeParts: Partial<StateStore> = {};
  /** Of the VM; they outlive the process. */
  readonly applications = newMemoryApplications();
  onOpenReplica: (replicaUrl: string) => void = () => {};
  /** What guests were let do, oldest first; at first they reach the disks. */
  readonly servedChanges: boolean[] = [];
  onServed: (isServed: boolean) => Promise<void> = async () => {};
  /** Those of the VM that are not replicated. */
  excludedDisks: readonly DiskGeometry[] = [];
  readonly #options: BenchOptions;
  engine: ReplicationEngine;

  constructor(options: BenchOptions = {}) {
    this.#options = options;
    this.tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: DISKS.map(({ sizeBytes }) => Buffer.alloc(sizeBytes, 0xaa)),
      nowMs: () => this.clock.nowMs(),
      captureBudgetBytes: options.captureBudgetBytes ?? Number.POSITIVE_INFINITY,
    });
    this.engine = this.#newEngine();
  }

  /** Enabled, with its first point. */
  static async replicating(options: BenchOptions = {}): Promise<Bench> {
    const bench = new Bench(options);
    await bench.enabled();
    return bench;
  }

  async enabled(): Promise<void> {
    await this.engine.enable(SETTINGS);
    await this.clock.run(10);
  }

  writeBlock(block: number, value: number): void {
    this.tracker.write(0, block * GRANULARITY, Buffer.alloc(GRANULARITY, value));
  }

  /** As many intervals as asked for. */
  cycles(count: number): Promise<void> {
    return this.clock.run(count * SETTINGS.intervalMs);
  }

  async record(): Promise<RelationshipRecord> {
    const [document] = await this.store.list("relationships/");
    return document?.value as RelationshipRecord;
  }

  async head() {
    return (await this.replica.status(VM_ID)).head;
  }

  get isServed(): boolean {
    return this.servedChanges.at(-1) ?? true;
  }

  async pointCount(): Promise<number> {
    return (await this.replica.points(VM_ID)).length;
  }

  /** Whether the head holds what the disks hold. */
  async isReplicaEqual(): Promise<boolean> {
    const pointId = (await this.head())?.pointId ?? "";
    return this.tracker.disks.every(({ diskId }, index) =>
      Buffer.from(this.replica.contentOf(VM_ID, pointId, diskId)).equals(
        this.tracker.contentOf(index),
      ),
    );
  }

  status() {
    return this.engine.status(VM_ID);
  }

  progress() {
    return this.tracker.progress(TARGET_ID);
  }

  of<T extends ReplicationEvent["type"]>(type: T): Extract<ReplicationEvent, { type: T }>[] {
    return this.events.filter((e): e is Extract<ReplicationEvent, { type: T }> => e.type === type);
  }

  /** The process died: the tracker recovers, the store is as it was. */
  async crash(): Promise<void> {
    this.#life.isDead = true;
    this.tracker.crash();
    this.engine = this.#newEngine();
    await this.engine.start();
  }

  #life = { isDead: false };

  #newEngine(): ReplicationEngine {
    const life = { isDead: false };
    this.#life = life;
    const alive = <T extends object>(inner: T, parts: Partial<T>): T =>
      override(inner, parts, () => life.isDead);
    const engine = new ReplicationEngine({
      store: alive<StateStore>(this.store, this.storeParts),
      clock: this.clock,
      random: () => 0.5,
      limits: { segmentBytes: 4 * GRANULARITY, ...this.#options.limits },
      cutTogether: cutTogetherInMemory,
      openVm: async () => ({
        name: "guest",
        tracker: alive<VmTracker>(this.tracker, this.trackerParts),
        excludedDisks: () => this.excludedDisks,
      }),
      openReplica: (settings) => {
        const { replicaUrl } = settings();
        this.onOpenReplica(replicaUrl);
        const other = this.#options.endpointAt?.(replicaUrl) ?? null;
        if (other !== null) return alive<ReplicaEndpoint>(other, {});
        return alive<ReplicaEndpoint>(this.replica, this.endpointParts);
      },
      openFreezer: () =>
        alive<ApplicationFreezer>(new MemoryApplicationFreezer(this.applications), {}),
      setServed: async (_vmId, isServed) => {
        if (life.isDead) return;
        this.servedChanges.push(isServed);
        await this.onServed(isServed);
      },
      toLocalTime: inUtc,
    });
    engine.subscribe((event) => life.isDead || this.events.push(event));
    return engine;
  }
}
