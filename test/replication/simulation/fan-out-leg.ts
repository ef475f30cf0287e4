import type { Clock } from "#lib/model/clock.js";
import type { DiskGeometry } from "#lib/model/disk.js";
import { TidemarkError } from "#lib/model/errors.js";
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
import { ComingDisk } from "./coming-disk.js";
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
import { quickList } from "./quick-list.js";
import type { Random } from "./random.js";
import { GRANULARITY, VM_ID } from "./scene.js";
import type { VirtualClock } from "./virtual-clock.js";
import type { WatchedReplica } from "./watched-replica.js";

/** A host as the primaries of others reach it. */
export interface FanOutHost {
  readonly url: string;
  readonly watched: WatchedReplica;
  /** Of its line, and of its storage when it is a primary. */
  readonly weather: Weather;
  readonly clock: Clock;
}

export interface LegDisk {
  readonly geometry: DiskGeometry;
  readonly content: Uint8Array;
}

export interface FanOutWorld {
  readonly clock: VirtualClock;
  readonly random: Random;
  readonly fail: (message: string) => void;
  readonly count: (name: string) => void;
  readonly hosts: readonly FanOutHost[];
  readonly plant: (tracker: VmTracker) => VmTracker;
  readonly serve: (isServed: boolean) => boolean;
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
  /** It is asked about its disks. */
  isAsked = false;
  /** It has told, and gives them up: all or nothing. */
  isLeaving = false;
  /** To whose host it leads that an order is under way. */
  readonly adding = new Set<string>();
  /** By target: an explicit order to serve the VM whoever has it. */
  readonly removed = new Set<string>();
  /** The same, by the host: a new relationship to it has another target. */
  readonly forcedFrom = new Set<string>();
  /** By target: its removal is under way. */
  readonly removing = new Set<string>();
  readonly coming: ComingDisk;
  /** Its own, for a guest's process outlives the service's. */
  readonly #store: StateStore;
  readonly #checkers = new Map<string, InvariantChecker>();
  readonly #withheld = new Set<string>();
  readonly #limits;
  #onDeath: () => void = () => {};

  constructor(
    readonly name: string,
    readonly host: FanOutHost,
    /** Whose replica it was failed over to; null: it has plain disks of its own. */
    public former: FanOutLeg | null,
    disks: readonly LegDisk[],
    readonly world: FanOutWorld,
  ) {
    const { random } = world;
    this.isCertain = former === null;
    this.#limits = chooseLimits(random);
    this.tracker = new MemoryVmTracker({
      disks: disks.map(({ geometry }) => geometry),
      encode: encodeContents,
      contents: disks.map(({ content }) => Uint8Array.from(content)),
      nowMs: () => host.clock.nowMs(),
      captureBudgetBytes: random.pick([2, 8, 1000]) * GRANULARITY,
    });
    this.guest = new Guest(this.tracker, random, null);
    this.coming = new ComingDisk(this.tracker, random, world.count);
    // By name: what ids are made of is no part of the seed.
    this.#store = quickList(new MemoryStateStore(), order);
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
    const { random } = this.world;
    const { clock } = this.host;
    return faultyEndpoint({ clock, random, weather }, this.life, watched.endpointFor(this));
  }

  /** `meanwhile`: what is otherwise when it starts again. */
  async crash(meanwhile = () => {}): Promise<void> {
    this.life.kill();
    this.adding.clear();
    this.removing.clear();
    this.isAsked = false;
    this.#onDeath();
    this.tracker.crash();
    meanwhile();
    this.engine = this.#newEngine();
    await this.engine.start();
  }

  /** The VM is not here any more. */
  end(): void {
    this.life.kill();
    this.guest.isServed = false;
    this.isEnded = true;
    this.#onDeath();
  }

  resizeDisk(): void {
    const { random, count } = this.world;
    count("disk resized");
    const diskIndex = random.below(this.tracker.disks.length);
    this.tracker.resizeDisk(diskIndex, 1 + random.below(26 * GRANULARITY));
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
    const { disks } = this.tracker;
    const there = replica.disksOf(VM_ID, pointId).disks;
    if (there.length !== disks.length) this.world.fail(`${what} a disk, or brought one`);
    disks.forEach(({ diskId, name }, index) => {
      const isThere = there.some((disk) => disk.diskId === diskId);
      const content = isThere ? replica.contentOf(VM_ID, pointId, diskId) : new Uint8Array();
      if (Buffer.compare(content, this.tracker.contentOf(index)) === 0) return;
      this.world.fail(`${what} what was on ${name}`);
    });
  }

  /** As FormerVms does: what this host has not found out itself it does not believe. */
  async release(
    { vm, lineage, formerHeadId }: ReturnRequest,
    to: FanOutHost,
  ): Promise<FormerDisks | null> {
    const record = await this.recordTo(to);
    const successor = lineage.find(({ parentId }) => parentId === record?.generation.id);
    if (record?.state !== "failed-over" || successor === undefined || this.isAsked) return null;
    this.isAsked = true;
    const death = new Promise<never>((_, reject) => {
      this.#onDeath = () => reject(new TidemarkError("UNREACHABLE", "it has died"));
    });
    const leftAt = { forkPointId: successor.forkPointId, formerHeadId };
    const told = this.engine.letGo(this.idOf(record), leftAt);
    const { isUnchanged } = await Promise.race([told, death]);
    const contents = new Map(vm.disks.map((disk) => [disk.diskId, this.#contentAs(disk)]));
    this.isLeaving = true;
    await Promise.race([this.engine.forget(VM_ID), death]).catch(() => undefined);
    return { generation: record.generation, contents, isUnchanged };
  }

  #contentAs({ diskId, sizeBytes }: DiskGeometry): Uint8Array {
    const index = this.tracker.disks.findIndex((disk) => disk.diskId === diskId);
    const content = new Uint8Array(sizeBytes);
    if (index !== -1) {
      content.set(this.tracker.contentOf(index).subarray(0, sizeBytes));
      return content;
    }
    this.isAsked = false;
    throw new TidemarkError("CONFLICT", "Cannot take the VM back: because it never had that disk.");
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
    const { random, plant } = this.world;
    const { clock } = this.host;
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
      setServed: faultyServing(world, life, (isServed) =>
        this.guest.serve(this.world.serve(isServed)),
      ),
    });
  }
}

function order({ value }: { readonly value: unknown }): number {
  const { replicaUrl } = (value as RelationshipRecord).settings;
  return replicaUrl.charCodeAt("https://h".length);
}
