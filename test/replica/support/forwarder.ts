/** Brings the newest recovery point of a store to another one, as the engine does, step by step. */
import { randomUUID } from "node:crypto";
import type { DeltaHeader } from "#lib/model/delta.js";
import { deltaDigest } from "#lib/model/delta-digest.js";
import type { Generation } from "#lib/model/disk.js";
import type { RecoveryPoint } from "#lib/model/replica-endpoint.js";
import { PointTracker } from "#lib/replica/point-tracker.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";

/** How far a cycle gets. */
export type CycleEnd = "committed" | "given back" | "answer lost";

export class Forwarder {
  readonly targetId = randomUUID();
  readonly generation: Generation = { number: 1, id: randomUUID() };
  readonly from: ReplicaStore;
  readonly to: ReplicaStore;
  readonly vmId: string;
  otherCount = 0;
  #headPointId: string | null = null;
  #tracker: PointTracker | null = null;

  constructor(from: ReplicaStore, to: ReplicaStore, vmId: string) {
    this.from = from;
    this.to = to;
    this.vmId = vmId;
  }

  async tracker(): Promise<PointTracker> {
    this.#tracker ??= await this.from.withVm(this.vmId, (tools, replica) =>
      PointTracker.open(tools, replica, () => (this.otherCount += 1)),
    );
    return this.#tracker;
  }

  async close(): Promise<void> {
    await this.#tracker?.close();
    this.#tracker = null;
  }

  /** The first copy. */
  async begin(): Promise<RecoveryPoint> {
    const tracker = await this.tracker();
    const vm = { vmId: this.vmId, name: "guest", disks: tracker.disks };
    await this.to.enable(vm, this.generation);
    await tracker.addTarget(this.targetId);
    await tracker.markAllocated(this.targetId);
    return this.cycle("committed");
  }

  /** Answers the head there. */
  async cycle(end: CycleEnd): Promise<RecoveryPoint> {
    const tracker = await this.tracker();
    const changes = await tracker.checkpoint(this.targetId, { segmentBytes: 8192 });
    const { cut, segments } = changes;
    const header: DeltaHeader = {
      formatVersion: 1,
      deltaId: randomUUID(),
      attempt: 1,
      kind: "point",
      vmId: this.vmId,
      generation: this.generation,
      parentPointId: this.#headPointId,
      stagingSessionId: null,
      cut,
      disks: tracker.disks,
      segmentCount: segments.length,
    };
    await this.to.openDelta(header);
    const receipts = [];
    for (const plan of segments) {
      receipts.push(await this.to.putSegment(changes.source(header.deltaId, plan)));
      changes.release(plan);
    }
    if (end === "given back") {
      await changes.giveBack();
    } else {
      const { vmId, deltaId, generation } = header;
      const digest = deltaDigest(receipts);
      const point = await this.to.commit({ vmId, deltaId, attempt: 1, generation, digest });
      this.#headPointId = point?.pointId ?? null;
      if (end === "committed") await changes.commit(point?.pointId);
      else await changes.giveBack();
    }
    const { head } = await this.to.status(this.vmId);
    if (head === null) throw new Error("nothing was ever committed");
    return head;
  }
}
