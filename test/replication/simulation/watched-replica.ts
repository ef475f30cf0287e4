import { type LineageEntry, type Succession } from "#lib/model/lineage.js";
import { TidemarkError } from "#lib/model/errors.js";
import type { MemoryReplica } from "#lib/model/memory-replica.js";
import type {
  ReplicaEndpoint,
  ReplicaVmStatus,
  ReturnRequest,
} from "#lib/model/replica-endpoint.js";
import { override } from "../override.js";
import type { FanOutLeg } from "./fan-out-leg.js";
import { VM_ID } from "./scene.js";

export interface ReplicaEvents {
  readonly fail: (message: string) => void;
  readonly count: (name: string) => void;
  /** The replica's host has the VM now, from that primary; null: nobody was asked. */
  readonly promoted: (to: LineageEntry, from: FanOutLeg | null) => void;
  /** Its host had the VM, and lets go of it for that one. */
  readonly released: (request: ReturnRequest, to: FanOutLeg) => Promise<void>;
  /** Whether its host has the VM, and not as a replica. */
  readonly isPrimary: () => boolean;
}

/** A host's replica, with an account of its own of who may write to it. */
export class WatchedReplica {
  readonly replica: MemoryReplica;
  /** The primary that may write to it, unless the VM is the replica's host's. */
  owner: string | null = null;
  /** By which its host has the VM. */
  promotion: LineageEntry | null = null;
  /** Points that its host left there itself. */
  readonly branchPointIds = new Set<string>();
  readonly #seen = new Set<string>();
  readonly #events: ReplicaEvents;

  constructor(replica: MemoryReplica, events: ReplicaEvents) {
    this.replica = replica;
    this.#events = events;
  }

  status(): Promise<ReplicaVmStatus | null> {
    return this.replica.status(VM_ID).catch(() => null);
  }

  /** As that primary reaches it. */
  endpointFor(leg: FanOutLeg): ReplicaEndpoint {
    const { replica } = this;
    return override<ReplicaEndpoint>(replica, {
      enable: async (vm, generation) => {
        const isKnown = (await this.status()) !== null;
        if (!isKnown && this.#events.isPrimary()) throw hasItself();
        const status = await replica.enable(vm, generation);
        if (!isKnown) this.owner = leg.name;
        return status;
      },
      openStaging: (vmId, generation) =>
        this.#written(leg, () => replica.openStaging(vmId, generation)),
      openDelta: (header) => this.#written(leg, () => replica.openDelta(header)),
      putSegment: (source) => this.#written(leg, () => replica.putSegment(source)),
      commit: (request) => this.#written(leg, () => replica.commit(request)),
      succeed: (succession) => this.succeed(succession, leg),
      takeReturned: (request) => this.#takeReturned(request, leg),
    });
  }

  /** `leg`: who asks; null: the replica's own administrator. */
  async succeed(succession: Succession, leg: FanOutLeg | null): Promise<ReplicaVmStatus> {
    const { to } = succession;
    const before = this.promotion;
    const status = await this.replica.succeed(succession);
    if (this.#seen.has(to.generation.id)) return status;
    this.#seen.add(to.generation.id);
    this.#events.count(to.cause);
    if (to.cause === "taken-over") this.#takenOver(to, status, before, leg);
    else if (to.cause === "cancelled") this.promotion = null;
    else this.#promoted(to, status, leg);
    return status;
  }

  /** Its host has plain disks, and no replica any more. */
  async forget(): Promise<void> {
    const status = await this.status();
    if (status !== null) await this.replica.deleteVm(VM_ID, status.generation);
    this.owner = null;
    this.promotion = null;
  }

  #takenOver(
    to: LineageEntry,
    { head }: ReplicaVmStatus,
    before: LineageEntry | null,
    leg: FanOutLeg | null,
  ): void {
    const { fail } = this.#events;
    if (before !== null) fail("a replica was taken over while its host had the VM");
    if ((head?.pointId ?? null) !== to.forkPointId) fail("a replica was not taken over as it is");
    this.owner = leg?.name ?? null;
  }

  #promoted(to: LineageEntry, { head }: ReplicaVmStatus, leg: FanOutLeg | null): void {
    const { fail, promoted } = this.#events;
    this.promotion = to;
    if (to.cause === "planned-failover") {
      if (leg === null || leg.name !== this.owner) fail("a VM was handed over by a stranger");
      if (head?.pointId !== to.forkPointId) fail("a planned failover not from the head");
      const isForced = (leg?.removed.size ?? 0) > 0;
      if (leg?.guest.isServed === true && !isForced)
        fail("a guest writes to a VM that is handed over");
      if (!isForced)
        leg?.requireContent(this.replica, head?.pointId ?? "", "a planned failover lost");
    }
    promoted(to, leg);
  }

  async #takeReturned(request: ReturnRequest, leg: FanOutLeg) {
    if (leg.isEnded) throw new TidemarkError("UNREACHABLE", "its host has the VM no more");
    if (this.owner !== leg.name) await this.#events.released(request, leg);
    const taken = await this.replica.takeReturned(request);
    if (this.owner !== leg.name) this.branchPointIds.add(taken.status.head?.pointId ?? "");
    this.owner = leg.name;
    return taken;
  }

  async #written<T>(leg: FanOutLeg, write: () => Promise<T>): Promise<T> {
    const isOwner = this.owner === leg.name && this.promotion === null;
    const result = await write();
    if (!isOwner) this.#events.fail(`${leg.name} wrote to a replica that is not its own any more`);
    return result;
  }
}

function hasItself(): TidemarkError {
  return new TidemarkError("CONFLICT", "Cannot keep a replica: because this host has the VM.");
}
