import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import type { FormerDisks } from "#lib/model/memory-former-disks.js";
import { isPromotion } from "#lib/model/lineage.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { isGivenAway, type RelationshipRecord } from "#lib/model/relationship.js";
import { relationshipIdOf } from "#lib/model/relationship-settings.js";
import type { ReturnRequest } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { encodeContents } from "../../contracts/segment-bytes.js";
import { override } from "../override.js";
import { chooseLimits } from "./choices.js";
import {
  CALM,
  faultyEndpoint,
  faultyServing,
  faultyStore,
  faultyTracker,
  type Weather,
} from "./faults.js";
import { Guest } from "./guest.js";
import { Incarnation } from "./incarnation.js";
import { InvariantChecker } from "./invariants.js";
import type { Random } from "./random.js";
import { DISKS, GRANULARITY, VM_ID } from "./scene.js";
import type { VirtualClock } from "./virtual-clock.js";
import type { WatchedReplica } from "./watched-replica.js";

/** A host as the primaries of others reach it. */
export interface FanOutHost {
  readonly url: string;
  readonly watched: WatchedReplica;
  /** Of its line, and of its storage when it is a primary. */
  readonly weather: Weather;
}

export interface FanOutWorld {
  readonly clock: VirtualClock;
  readonly random: Random;
  readonly fail: (message: string) => void;
  readonly hosts: readonly FanOutHost[];
  readonly plant: (tracker: VmTracker) => VmTracker;
}

/** A host's life as the VM's primary: its disks, its guest, and an engine with any targets. */
export class FanOutLeg {
  readonly guest: Guest;
  readonly tracker: MemoryVmTracker;
  engine: ReplicationEngine;
  life = new Incarnation();
  isEnded = false;
  /** Nothing but planned failovers made it the VM's primary. */
  isCertain: boolean;
  /** It is asked about its disks, and does not die meanwhile. */
  isAsked = false;
  /** To whose host it leads that an order is under way. */
  readonly adding = new Set<string>();
  /** By target: an explicit order to serve the VM whoever has it. */
  readonly removed = new Set<string>();
  /** Its own, for a guest's process outlives the service's. */
  readonly #store: StateStore;
  readonly #checkers = new Map<string, InvariantChecker>();
  readonly #withheld = new Set<string>();
  readonly #limits;

  constructor(
    readonly name: string,
    readonly host: FanOutHost,
    /** Whose replica it was failed over to; null: it has plain disks of its own. */
    public former: FanOutLeg | null,
    contents: readonly Uint8Array[],
    readonly world: FanOutWorld,
  ) {
    const { random, clock } = world;
    this.isCertain = former === null;
    this.#limits = chooseLimits(random);
    this.tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: contents.map((content) => Uint8Array.from(content)),
      nowMs: () => clock.nowMs(),
      captureBudgetBytes: random.pick([2, 8, 1000]) * GRANULARITY,
    });
    this.guest = new Guest(this.tracker, random, null);
    const store = new MemoryStateStore();
    // By name: what ids are made of is no part of the seed.
    this.#store = override<StateStore>(store, {
      list: async (prefix) => [...(await store.list(prefix))].sort((a, b) => order(a) - order(b)),
    });
    this.engine = this.#newEngine();
  }

  async records(): Promise<readonly RelationshipRecord[]> {
    const documents = await this.#store.list("relationships/");
    return documents.map(({ value }) => value as RelationshipRecord);
  }

  async recordTo({ url }: FanOutHost): Promise<RelationshipRecord | undefined> {
    return (await this.records()).find(({ settings }) => settings.replicaUrl === url);
  }

  idOf({ settings }: RelationshipRecord): string {
    return relationshipIdOf(settings);
  }

  /** From here on what that target's replica gets is held against this host's disks. */
  async watch(targetId: string, { watched }: FanOutHost): Promise<void> {
    const { replica, branchPointIds } = watched;
    const before = await replica.points(VM_ID).catch(() => []);
    const known = new Set(before.map(({ pointId }) => pointId));
    const ownPoints = override<MemoryReplica>(replica, {
      points: async (vmId) => {
        const points = await replica.points(vmId);
        return points.filter(({ pointId }) => !known.has(pointId) && !branchPointIds.has(pointId));
      },
    });
    const parts = [ownPoints, this.tracker, this.#store] as const;
    this.#checkers.set(targetId, new InvariantChecker(...parts, targetId));
  }

  endpointTo({ watched, weather }: FanOutHost) {
    const { clock, random } = this.world;
    return faultyEndpoint({ clock, random, weather }, this.life, watched.endpointFor(this));
  }

  async crash(): Promise<void> {
    this.life.kill();
    this.adding.clear();
    this.tracker.crash();
    this.engine = this.#newEngine();
    await this.engine.start();
  }

  /** The VM is not here any more. */
  end(): void {
    this.life.kill();
    this.guest.isServed = false;
    this.isEnded = true;
  }

  async check(): Promise<void> {
    for (const record of await this.records()) {
      const { settings } = record;
      const host = this.#hostAt(settings.replicaUrl);
      const isOwner = host.watched.owner === this.name;
      if (isOwner) await this.#checkers.get(settings.targetId)?.check();
      await this.#checkServed(record, host);
    }
  }

  /** Whether that target has all, and its replica says so. */
  async isSettled(host: FanOutHost): Promise<boolean> {
    const record = await this.recordTo(host);
    const checker = this.#checkers.get(record?.settings.targetId ?? "");
    if (checker === undefined || !(await checker.isSettled())) return false;
    checker.requireEqual();
    return host.watched.owner === this.name;
  }

  async describe(): Promise<string> {
    const records = await this.records();
    const statuses = await Promise.all(
      records.map((each) => this.engine.status(this.idOf(each)).catch(() => null)),
    );
    const states = statuses.map((each) => `${each?.state} ${each?.lastError?.message ?? ""}`);
    return `${this.name} served ${this.guest.isServed}: ${states.join("; ")}`;
  }

  requireContent(replica: MemoryReplica, pointId: string, what: string): void {
    DISKS.forEach(({ diskId, name }, index) => {
      const there = replica.contentOf(VM_ID, pointId, diskId);
      if (Buffer.compare(there, this.tracker.contentOf(index)) === 0) return;
      this.world.fail(`${what} what was on ${name}`);
    });
  }

  /** As FormerVms does: what this host has not found out itself it does not believe. */
  async release(
    { lineage, formerHeadId }: ReturnRequest,
    to: FanOutHost,
  ): Promise<FormerDisks | null> {
    const record = await this.recordTo(to);
    const successor = lineage.find(({ parentId }) => parentId === record?.generation.id);
    if (record?.state !== "failed-over" || successor === undefined || this.isAsked) return null;
    this.isAsked = true;
    const leftAt = { forkPointId: successor.forkPointId, formerHeadId };
    const { isUnchanged } = await this.engine.letGo(this.idOf(record), leftAt);
    await this.engine.forget(VM_ID).catch(() => undefined);
    const contents = new Map(
      DISKS.map(({ diskId }, index) => [diskId, this.tracker.contentOf(index).slice()]),
    );
    return { generation: record.generation, contents, isUnchanged };
  }

  /** Guests are served only while no target has the VM, as far as is noted. */
  async #checkServed(record: RelationshipRecord, { watched }: FanOutHost): Promise<void> {
    if (!isGivenAway(record) || this.removed.has(record.settings.targetId)) return;
    const key = `${record.settings.targetId} ${record.generation.id}`;
    if (!this.guest.isServed) {
      this.#withheld.add(key);
      return;
    }
    if (record.state === "handing-over" && !this.#withheld.has(key)) return;
    const { lineage = [] } = (await watched.status()) ?? {};
    const own = lineage.findIndex(({ generation }) => generation.id === record.generation.id);
    const later = lineage.slice(own + 1);
    if (own === -1 || later.some((entry) => !isPromotion(entry))) return;
    this.world.fail(`${this.name} serves a guest, and is ${record.state} to another host`);
  }

  #hostAt(replicaUrl: string): FanOutHost {
    const found = this.world.hosts.find(({ url }) => url === replicaUrl);
    if (found === undefined) throw new Error(`no host at ${replicaUrl}`);
    return found;
  }

  #newEngine(): ReplicationEngine {
    this.life = new Incarnation();
    const { life } = this;
    const { clock, random, plant } = this.world;
    const world = { clock, random, weather: this.host.weather ?? CALM };
    const tracker = faultyTracker(world, life, plant(this.tracker), ({ cut }) => {
      for (const checker of this.#checkers.values()) checker.noteCut(cut);
    });
    return new ReplicationEngine({
      store: faultyStore(world, life, this.#store),
      clock: life.clock(clock),
      random: () => random.next(),
      limits: this.#limits,
      cutTogether: cutTogetherInMemory,
      openVm: async () => ({ name: "guest", tracker }),
      openReplica: (settings) => this.endpointTo(this.#hostAt(settings().replicaUrl)),
      setServed: faultyServing(world, life, (isServed) => this.guest.serve(isServed)),
    });
  }
}

function order({ value }: { readonly value: unknown }): number {
  const { replicaUrl } = (value as RelationshipRecord).settings;
  return replicaUrl.charCodeAt("https://h".length);
}
