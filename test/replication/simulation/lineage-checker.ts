import {
  type Lineage,
  type LineageEntry,
  presentEntry,
  type Succession,
} from "#lib/model/lineage.js";
import type { MemoryReplica } from "#lib/model/memory-replica.js";
import type { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { holderIdOf, type RelationshipRecord } from "#lib/model/relationship.js";
import type { ReplicaEndpoint, ReplicaVmStatus } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import { override } from "../override.js";
import type { Guest } from "./guest.js";
import { ReturnCost } from "./return-cost.js";
import { VM_ID } from "./scene.js";

interface WatchedParts {
  readonly replica: MemoryReplica;
  readonly tracker: MemoryVmTracker;
  readonly store: StateStore;
  readonly guest: Guest;
  readonly fail: (message: string) => void;
}

/**
 * That one side writes (G6), and that a planned failover loses nothing (G7). It keeps a
 * lineage of its own, from what the replica took, and goes by that.
 */
export class LineageChecker {
  /** As the replica's administrator reaches it. */
  readonly replica: ReplicaEndpoint;
  /** As the primary does. */
  readonly endpoint: ReplicaEndpoint;
  readonly store: StateStore;
  readonly #parts: WatchedParts;
  readonly #taken: { readonly to: LineageEntry; readonly pointCount: number }[] = [];
  /** What the primary has noted that it will ask for. */
  readonly #notedIds = new Set<string>();
  readonly #happened: Record<string, number>;
  readonly #cost: ReturnCost;
  readonly #generationOfDelta = new Map<string, string>();

  /** `happened`: by name and number of times. */
  constructor(parts: WatchedParts, happened: Record<string, number>) {
    this.#parts = parts;
    this.#happened = happened;
    this.#cost = new ReturnCost(parts.tracker, parts.guest, happened);
    this.replica = override<ReplicaEndpoint>(parts.replica, {
      succeed: (succession) => this.#succeed(succession),
      openDelta: async (header) => {
        this.#generationOfDelta.set(header.deltaId, header.generation.id);
        return parts.replica.openDelta(header);
      },
      putSegment: async (source) => {
        const isLate = this.#isOver(this.#generationOfDelta.get(source.deltaId));
        const receipt = await parts.replica.putSegment(source);
        if (isLate) parts.fail("the replica took a segment of a generation that is over");
        return receipt;
      },
    });
    this.endpoint = override<ReplicaEndpoint>(this.replica, {
      succeed: (succession) => {
        const isNoted = this.#notedIds.has(succession.to.generation.id);
        if (!isNoted) parts.fail("what is asked of the replica is not in the journal");
        return this.replica.succeed(succession);
      },
    });
    this.store = override<StateStore>(parts.store, {
      put: (key, value, version) => {
        const { handOver } = value as Partial<RelationshipRecord>;
        if (handOver !== undefined) this.#notedIds.add(handOver.generation.id);
        return parts.store.put(key, value, version);
      },
    });
  }

  /** Null until the replica knows the VM. */
  async lineage(): Promise<Lineage | null> {
    return (await this.#status())?.lineage ?? null;
  }

  isReplicas({ holderId, generation }: LineageEntry): boolean {
    return this.#taken.length > 0 && holderId === generation.id;
  }

  async check(): Promise<void> {
    const last = this.#taken.at(-1);
    if (last === undefined) return;
    await this.#checkPoints();
    await this.#checkCost();
    if (last.to.cause !== "planned-failover") return;
    const { guest, fail } = this.#parts;
    if (guest.isServed) fail("a guest reaches the disks of a VM that was given away");
    await this.#checkNothingLost();
  }

  /** The replica has the VM, and the primary goes by that. */
  async isGivenAway(): Promise<boolean> {
    const last = this.#taken.at(-1);
    const record = await this.#record();
    if (last === undefined || record?.state !== "failed-over") return false;
    return this.isReplicas(last.to) && !this.#parts.guest.isServed;
  }

  /** The primary has the VM, by the present generation, and serves it. */
  async isHolder(): Promise<boolean> {
    const [lineage, record] = [await this.lineage(), await this.#record()];
    if (lineage === null || record === null) return false;
    const { generation, holderId } = presentEntry(lineage);
    const isPresent = record.generation.id === generation.id && holderIdOf(record) === holderId;
    return isPresent && this.#parts.guest.isServed;
  }

  async #succeed(succession: Succession): Promise<ReplicaVmStatus> {
    const { replica } = this.#parts;
    const before = await replica.points(VM_ID);
    const status = await replica.succeed(succession);
    const { to } = succession;
    if (this.#taken.some((taken) => taken.to.generation.id === to.generation.id)) return status;
    this.#happened[to.cause] = (this.#happened[to.cause] ?? 0) + 1;
    this.#taken.push({ to, pointCount: status.pointCount });
    this.#checkFork(
      to,
      before.map(({ pointId }) => pointId),
      status,
    );
    return status;
  }

  #checkFork(to: LineageEntry, pointIds: readonly string[], status: ReplicaVmStatus): void {
    const { fail } = this.#parts;
    if (status.stagingSessionId !== null) fail("a promotion leaves what was staged before it");
    const isHead = status.head?.pointId === to.forkPointId;
    if (to.cause === "planned-failover" && !isHead) fail("a planned failover not from the head");
    const isThere = to.forkPointId === null || isHead || pointIds.includes(to.forkPointId);
    if (!isThere) fail("a promotion from a point that is not there");
  }

  /** Whether the generation is known, and one that another has followed. */
  #isOver(generationId: string | undefined): boolean {
    const present = this.#taken.at(-1)?.to.generation.id;
    return present !== undefined && generationId !== undefined && generationId !== present;
  }

  async #checkPoints(): Promise<void> {
    const points = await this.#parts.replica.points(VM_ID);
    for (const [index, { to, pointCount }] of this.#taken.entries()) {
      const later = new Set(this.#taken.slice(index).map((taken) => taken.to.generation.id));
      const late = points.slice(pointCount).find(({ generation }) => !later.has(generation.id));
      if (late === undefined) continue;
      this.#parts.fail(
        `point ${late.sequence} of generation ${late.generation.number} came after generation ${to.generation.number}`,
      );
    }
  }

  async #checkCost(): Promise<void> {
    const record = await this.#record();
    if (record === null) return;
    const { replica, fail } = this.#parts;
    const complaint = await this.#cost.check(record, await replica.points(VM_ID));
    if (complaint !== null) fail(complaint);
  }

  async #checkNothingLost(): Promise<void> {
    const { replica, tracker, fail } = this.#parts;
    const pointId = (await this.#status())?.head?.pointId ?? "";
    tracker.disks.forEach(({ diskId }, diskIndex) => {
      const there = replica.contentOf(VM_ID, pointId, diskId);
      if (Buffer.compare(there, tracker.contentOf(diskIndex)) === 0) return;
      fail(`a planned failover lost what was on disk ${diskIndex}`);
    });
  }

  #status(): Promise<ReplicaVmStatus | null> {
    return this.#parts.replica.status(VM_ID).catch(() => null);
  }

  async #record(): Promise<RelationshipRecord | null> {
    const [document] = await this.#parts.store.list("relationships/");
    return (document?.value as RelationshipRecord | undefined) ?? null;
  }
}
