import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import type { CutTogether } from "#lib/model/vm-tracker.js";
import type { CycleReport } from "#lib/model/relationship.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { systemClock } from "#lib/replication/system-clock.js";
import { TrackedVm } from "#lib/tracking/tracked-vm.js";
import { decodeSegment } from "../contracts/segment-bytes.js";
import type { ChainedDisks } from "./chained-disks.js";
import { DependencyOracle, type Progress } from "./dependent-writes.js";

const VM_IDS = [
  "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
  "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
] as const;
const GROUP = "shop";
const INTERVAL_MS = 100;
const DRAIN_LIMIT_MS = 500;

/** What was acknowledged before a cut, and what was sent until after it. */
interface Window {
  readonly acked: readonly Progress[];
  readonly issued: readonly Progress[];
}

/**
 * Two VMs of one disk each, in one consistency group, replicated by an engine to a replica
 * in memory. Each cut that both have a point of is judged: write B on the second VM's disk
 * must not be there without its A on the first one's.
 */
export class GroupedVms {
  readonly faults: string[] = [];
  judgedCount = 0;
  /** Cuts with writes in flight. */
  inFlightCount = 0;
  readonly #scene: ChainedDisks;
  readonly #engine: ReplicationEngine;
  readonly #replica = new MemoryReplica(decodeSegment);
  readonly #oracle = new DependencyOracle();
  readonly #windows = new Map<number, Window>();
  readonly #points = new Map<number, Map<string, string>>();
  #failed: ((reason: Error) => void) | null = null;

  private constructor(scene: ChainedDisks, cutTogether: CutTogether) {
    this.#scene = scene;
    const budget = { memoryBytes: 64 << 20, spillPath: "", spillBytes: 0 };
    const trackers = scene.disks.map((disk) => new TrackedVm([disk], ["vda"], budget));
    this.#engine = new ReplicationEngine({
      store: new MemoryStateStore(),
      clock: systemClock,
      limits: { drainLimitMs: DRAIN_LIMIT_MS },
      cutTogether: (members) => this.#watchedCut(members, cutTogether),
      openVm: async (vmId) => {
        const tracker = trackers[VM_IDS.findIndex((id) => id === vmId)];
        if (tracker === undefined) throw new RangeError("no such VM");
        return { name: vmId.slice(0, 1), tracker };
      },
      openReplica: () => this.#replica,
    });
    this.#engine.subscribe((event) => {
      if (event.type === "cycle") this.#take(event.vmId, event.report);
      else if (event.type === "error") this.#failed?.(new Error(event.error.message));
    });
  }

  static async start(
    scene: ChainedDisks,
    cutTogether: CutTogether = TrackedVm.checkpointTogether.bind(TrackedVm),
  ): Promise<GroupedVms> {
    const vms = new GroupedVms(scene, cutTogether);
    for (const vmId of VM_IDS) {
      await vms.#engine.enable({
        vmId,
        targetId: vmId.replaceAll("-4", "-5"),
        replicaUrl: "https://replica.example.com",
        intervalMs: INTERVAL_MS,
        compression: 1,
        group: GROUP,
      });
    }
    return vms;
  }

  /** Until so many cuts were judged, or `isEnough` says so. */
  async judge(count: number, isEnough: () => boolean = () => false): Promise<void> {
    const failed = new Promise<never>((_resolve, reject) => {
      this.#failed = reject;
    });
    const judged = async () => {
      while (this.judgedCount < count && !isEnough()) await systemClock.sleep(20);
    };
    await Promise.race([judged(), failed]);
  }

  status() {
    return this.#engine.groups()[0];
  }

  async close(): Promise<void> {
    this.#failed = null;
    await this.#engine.close();
  }

  async #watchedCut(
    members: Parameters<CutTogether>[0],
    cutTogether: CutTogether,
  ): ReturnType<CutTogether> {
    const acked = this.#scene.progress("acked");
    const cuts = await cutTogether(members);
    const cutNumber = cuts[0]?.cut.group?.cutNumber ?? 0;
    this.#windows.set(cutNumber, { acked, issued: this.#scene.progress("issued") });
    if ((cuts[0]?.cut.requestsInFlight ?? 0) > 0) this.inFlightCount += 1;
    return cuts;
  }

  #take(vmId: string, { group, pointId }: CycleReport): void {
    if (group === undefined || pointId === null) return;
    const points = this.#points.get(group.cutNumber) ?? new Map<string, string>();
    points.set(vmId, pointId);
    this.#points.set(group.cutNumber, points);
    if (points.size === VM_IDS.length) this.#judge(group.cutNumber, points);
  }

  #judge(cutNumber: number, points: ReadonlyMap<string, string>): void {
    const window = this.#windows.get(cutNumber);
    const images = VM_IDS.map((vmId) => {
      const pointId = points.get(vmId) ?? "";
      const content = Buffer.from(this.#replica.contentOf(vmId, pointId, 0));
      this.#replica.forgetBefore(vmId, pointId);
      return content;
    });
    this.#points.clear();
    this.#windows.delete(cutNumber);
    this.judgedCount += 1;
    this.faults.push(...this.#oracle.judge(images, window?.acked ?? [], window?.issued ?? []));
  }
}
