/** An engine with two VMs of one consistency group, everything in memory and time by hand. */
import { findGroupPoints } from "#lib/model/group-points.js";
import { MemoryApplicationFreezer, newMemoryApplications } from "#lib/model/memory-freezer.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { ReplicationEvent } from "#lib/model/relationship.js";
import type { NewRelationshipSettings } from "#lib/model/relationship-settings.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { decodeSegment, encodeContents } from "../contracts/segment-bytes.js";
import { override } from "./override.js";
import { DISKS, GRANULARITY, SETTINGS } from "./simulation/scene.js";
import { VirtualClock } from "./simulation/virtual-clock.js";

export const GROUP = "shop";
export const [A, B] = [
  "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
  "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
] as const;

export class GroupVm {
  readonly tracker: MemoryVmTracker;
  /** What the engine calls instead of the reference implementation. */
  readonly trackerParts: Partial<VmTracker> = {};
  readonly endpointParts: Partial<ReplicaEndpoint> = {};
  readonly applications = newMemoryApplications();

  constructor(clock: VirtualClock, captureBudgetBytes = Number.POSITIVE_INFINITY) {
    this.tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: DISKS.map(({ sizeBytes }) => Buffer.alloc(sizeBytes, 0xaa)),
      nowMs: () => clock.nowMs(),
      captureBudgetBytes,
    });
  }

  writeBlock(block: number, value: number): void {
    this.tracker.write(0, block * GRANULARITY, Buffer.alloc(GRANULARITY, value));
  }
}

export class GroupBench {
  readonly clock = new VirtualClock();
  readonly replica = new MemoryReplica(decodeSegment);
  readonly store = new MemoryStateStore();
  readonly events: ReplicationEvent[] = [];
  readonly vms = new Map<string, GroupVm>();
  engine: ReplicationEngine;

  constructor() {
    for (const vmId of [A, B]) this.vms.set(vmId, new GroupVm(this.clock));
    this.engine = this.newEngine();
  }

  /** Both enabled, each with its first point. */
  static async replicating(): Promise<GroupBench> {
    const bench = new GroupBench();
    for (const vmId of [A, B]) await bench.engine.enable(settingsOf(vmId));
    await bench.clock.run(10);
    return bench;
  }

  vm(vmId: string): GroupVm {
    const vm = this.vms.get(vmId);
    if (vm === undefined) throw new Error("no such VM");
    return vm;
  }

  /** Each with a write of its own in each cycle. */
  async cycles(count: number, writers: readonly string[] = [A, B]): Promise<void> {
    for (let cycle = 0; cycle < count; cycle += 1) {
      for (const vmId of writers) this.vm(vmId).writeBlock(cycle % 20, (cycle * 7 + 1) & 0xff);
      await this.clock.run(SETTINGS.intervalMs);
    }
  }

  async groupPoints() {
    const vms = [A, B].map(async (vmId) => ({ vmId, points: await this.replica.points(vmId) }));
    return findGroupPoints(GROUP, await Promise.all(vms));
  }

  async pointCount(vmId: string): Promise<number> {
    return (await this.replica.points(vmId)).length;
  }

  group() {
    return this.engine.groups().find(({ name }) => name === GROUP);
  }

  newEngine(): ReplicationEngine {
    const engine = new ReplicationEngine({
      store: this.store,
      clock: this.clock,
      random: () => 0.5,
      limits: { segmentBytes: 4 * GRANULARITY },
      cutTogether: cutTogetherInMemory,
      openVm: async (vmId) => {
        const { tracker, trackerParts } = this.vm(vmId);
        return { name: vmId.slice(0, 1), tracker: override<VmTracker>(tracker, trackerParts) };
      },
      openFreezer: ({ vmId }) => new MemoryApplicationFreezer(this.vm(vmId).applications),
      openReplica: (settings) =>
        override<ReplicaEndpoint>(this.replica, this.vm(settings().vmId).endpointParts),
    });
    engine.subscribe((event) => this.events.push(event));
    return engine;
  }
}

export function settingsOf(vmId: string): NewRelationshipSettings {
  return { ...SETTINGS, vmId, targetId: vmId.replaceAll("-4", "-5"), group: GROUP };
}
