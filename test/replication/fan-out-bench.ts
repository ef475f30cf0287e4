/** A primary with two targets, everything in memory and time by hand. */
import { randomUUID } from "node:crypto";
import { type LineageEntry, presentEntry, successorOf } from "#lib/model/lineage.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import type { RelationshipRecord, RelationshipState } from "#lib/model/relationship.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import { decodeSegment } from "../contracts/segment-bytes.js";
import { Bench, type BenchOptions } from "./bench.js";
import { override } from "./override.js";
import { SETTINGS, VM_ID } from "./simulation/scene.js";

export const FAR_ID = "66666666-6666-4666-8666-666666666666";
export const FAR = {
  ...SETTINGS,
  targetId: FAR_ID,
  targetName: "far",
  replicaUrl: "https://far.example.com:4443",
  intervalMs: 3000,
};

/** The VM's first target, and the one called far. */
export const BOTH = [VM_ID, FAR_ID] as const;
export type Target = (typeof BOTH)[number];

export class FanOutBench extends Bench {
  readonly far: MemoryReplica;
  readonly farParts: Partial<ReplicaEndpoint>;

  constructor(far = new MemoryReplica(decodeSegment), options: BenchOptions = {}) {
    const farParts: Partial<ReplicaEndpoint> = {};
    const endpoint = override<ReplicaEndpoint>(far, farParts);
    super({ ...options, endpointAt: (url) => (url === FAR.replicaUrl ? endpoint : null) });
    this.far = far;
    this.farParts = farParts;
  }

  /** Both have their first point. */
  static async replicatingToBoth(options: BenchOptions = {}): Promise<FanOutBench> {
    const bench = new FanOutBench(undefined, options);
    await bench.enabled();
    await bench.engine.enable(FAR);
    await bench.clock.run(10);
    return bench;
  }

  replicaOf(id: Target): MemoryReplica {
    return id === FAR_ID ? this.far : this.replica;
  }

  partsOf(id: Target): Partial<ReplicaEndpoint> {
    return id === FAR_ID ? this.farParts : this.endpointParts;
  }

  async headOf(id: Target) {
    return (await this.replicaOf(id).status(VM_ID)).head;
  }

  /** Whether the head there holds what the disks hold. */
  async isEqual(id: Target): Promise<boolean> {
    const pointId = (await this.headOf(id))?.pointId ?? "";
    return this.tracker.disks.every(({ diskId }, index) =>
      Buffer.from(this.replicaOf(id).contentOf(VM_ID, pointId, diskId)).equals(
        this.tracker.contentOf(index),
      ),
    );
  }

  async bothEqual(): Promise<boolean> {
    return (await this.isEqual(VM_ID)) && (await this.isEqual(FAR_ID));
  }

  async stateOf(id: Target): Promise<RelationshipState> {
    return (await this.engine.status(id)).state;
  }

  async states(): Promise<readonly RelationshipState[]> {
    return Promise.all(BOTH.map((id) => this.stateOf(id)));
  }

  async recordOf(id: Target): Promise<RelationshipRecord> {
    const targetId = id === FAR_ID ? FAR_ID : SETTINGS.targetId;
    const document = await this.store.get(`relationships/${VM_ID}/${targetId}`);
    return document?.value as RelationshipRecord;
  }

  async lineageOf(id: Target) {
    return (await this.replicaOf(id).status(VM_ID)).lineage ?? [];
  }

  /** As the administrator of the host there does it. */
  async succeedThere(id: Target, cause: LineageEntry["cause"], holderId?: string): Promise<void> {
    const { generation: from } = presentEntry(await this.lineageOf(id));
    const own = randomUUID();
    const forkPointId = (await this.headOf(id))?.pointId ?? null;
    const to = successorOf(from, own, { forkPointId, holderId: holderId ?? own, cause });
    await this.replicaOf(id).succeed({ vmId: VM_ID, from, to });
  }

  failOverThere(id: Target): Promise<void> {
    return this.succeedThere(id, "unplanned-failover");
  }

  async cancelThere(id: Target): Promise<void> {
    const [first] = await this.lineageOf(id);
    await this.succeedThere(id, "cancelled", first?.generation.id ?? "");
  }

  /** By a host that has nothing else to do with this VM here. */
  takeOverThere(id: Target): Promise<void> {
    return this.succeedThere(id, "taken-over", randomUUID());
  }
}
