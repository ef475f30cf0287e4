import type { Lineage } from "#lib/model/lineage.js";
import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import type { FormerDisks } from "#lib/model/memory-former-disks.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { RelationshipRecord } from "#lib/model/relationship.js";
import type { RecoveryPoint, ReplicaEndpoint, ReturnRequest } from "#lib/model/replica-endpoint.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { decodeSegment, encodeContents } from "../../contracts/segment-bytes.js";
import { override } from "../override.js";
import { chooseLimits, chooseWeather } from "./choices.js";
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
import { InvariantChecker, Violation } from "./invariants.js";
import type { Random } from "./random.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./scene.js";
import { settle, type VirtualClock } from "./virtual-clock.js";

/** How the VM came to its host; null: it is new, and enabled. */
export interface LegStart {
  readonly contents: readonly Uint8Array[];
  readonly reversal: {
    readonly lineage: Lineage;
    readonly start: "nothing" | "suspect";
    /** The old primary's disks, when it lets go of them. */
    readonly release: () => Promise<FormerDisks>;
  } | null;
}

/** From one change of sides to the next: a primary's engine, in weather, and the replica that follows it. */
export class Leg {
  readonly replica = new MemoryReplica(decodeSegment);
  readonly guest: Guest;
  life = new Incarnation();
  readonly #tracker: MemoryVmTracker;
  readonly #store = new MemoryStateStore();
  readonly #checker: InvariantChecker;
  readonly #clock: VirtualClock;
  readonly #random: Random;
  readonly #count: (name: string) => void;
  readonly #start: LegStart;
  readonly #weather: Weather = { ...CALM };
  readonly #chosenWeather: Weather;
  readonly #limits;
  readonly #plant: (tracker: VmTracker) => VmTracker;
  #engine: ReplicationEngine;
  #branchPointId: string | null = null;
  #left: FormerDisks | null = null;

  /** `plant` wraps what the engine sees of the disks. */
  constructor(
    start: LegStart,
    clock: VirtualClock,
    random: Random,
    count: (name: string) => void,
    plant: (tracker: VmTracker) => VmTracker,
  ) {
    this.#plant = plant;
    this.#start = start;
    this.#clock = clock;
    this.#random = random;
    this.#count = count;
    this.#chosenWeather = chooseWeather(random);
    this.#limits = chooseLimits(random);
    this.#tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: start.contents.map((content) => Uint8Array.from(content)),
      nowMs: () => clock.nowMs(),
      captureBudgetBytes: random.pick([2, 8, 1000]) * GRANULARITY,
    });
    this.guest = new Guest(this.#tracker, random, null);
    // The branch point is no cut of this tracker's: it is compared by itself.
    const ownPoints = override<MemoryReplica>(this.replica, {
      points: async (vmId) => {
        const points = await this.replica.points(vmId);
        return points.filter(({ pointId }) => pointId !== this.#branchPointId);
      },
    });
    this.#checker = new InvariantChecker(ownPoints, this.#tracker, this.#store);
    this.#engine = this.#newEngine();
  }

  /** Ordered in calm weather, until it is noted; a reversal's target is there before the first write. */
  async begin(): Promise<void> {
    const { reversal } = this.#start;
    if (reversal !== null) await this.#tracker.addTarget(TARGET_ID, reversal.start);
    for (let attempt = 0; (await this.#found()) === null; attempt += 1) {
      if (attempt > 50) throw new Violation("its replication is never begun");
      const { lineage } = reversal ?? {};
      const begun =
        lineage === undefined
          ? this.#engine.enable(SETTINGS)
          : this.#engine.reverse(SETTINGS, lineage);
      await this.#driven(begun);
    }
    Object.assign(this.#weather, this.#chosenWeather);
  }

  async live(steps: number): Promise<void> {
    for (let step = 0; step < steps; step += 1) await this.step();
  }

  /** A little time, a write, and sometimes a crash; then the rules. */
  async step(): Promise<void> {
    await settle();
    await this.#checker.check();
    if (this.#random.chance(0.4)) this.guest.write();
    if (this.#random.chance(0.01)) await this.#crash();
    if (this.#random.chance(0.01)) this.replica.crash();
    if (this.#random.chance(0.02)) this.#engine.resume(VM_ID).catch(() => {});
    this.#clock.step();
  }

  /** Without more faults: until the replica equals the disks. */
  async settled(): Promise<void> {
    Object.assign(this.#weather, CALM);
    const untilMs = this.#clock.monotonicMs() + 200_000;
    while (!(await this.#checker.isSettled())) {
      this.#engine.resume(VM_ID).catch(() => {});
      await settle();
      await this.#checker.check();
      const isStuck = !this.#clock.step() || this.#clock.monotonicMs() > untilMs;
      if (isStuck)
        throw new Violation(`stuck: ${JSON.stringify(await this.#engine.status(VM_ID))}`);
    }
    this.#checker.requireEqual();
    Object.assign(this.#weather, this.#chosenWeather);
  }

  /** A planned failover, in whatever weather, until this side knows that it is done. */
  async handedOver(): Promise<void> {
    for (let step = 0; (await this.state()) !== "failed-over"; step += 1) {
      if (step % 100 === 0) this.#engine.handOver(VM_ID).catch(() => {});
      if (step > 4000) throw new Violation("a planned failover does not end");
      if (step > 2000) Object.assign(this.#weather, CALM);
      await this.step();
    }
    if (this.guest.isServed)
      throw new Violation("a guest reaches the disks of a VM that was given away");
  }

  checkNothingLost(point: RecoveryPoint): void {
    this.#requireContent(this.replica, point.pointId, "a planned failover lost", this.contents());
  }

  get hasBranchPoint(): boolean {
    return this.#branchPointId !== null;
  }

  /** What the old primary left is a point, byte for byte, and nobody wrote to it after that. */
  checkBranchPoint(old: Leg): void {
    const pointId = this.#branchPointId ?? "";
    this.#requireContent(this.replica, pointId, "the branch point lacks", old.contents());
    if (old.guest.isServed) throw new Violation("a guest reaches disks that were let go of");
  }

  contents(): Uint8Array[] {
    return DISKS.map((_, index) => this.#tracker.contentOf(index));
  }

  contentsAt(pointId: string): Uint8Array[] {
    return DISKS.map(({ diskId }) => this.replica.contentOf(VM_ID, pointId, diskId));
  }

  idsWith(contents: readonly Uint8Array[]): ReadonlyMap<string, Uint8Array> {
    return new Map(
      DISKS.map(({ diskId }, index) => [diskId, Uint8Array.from(contents[index] ?? [])]),
    );
  }

  async lineage(): Promise<Lineage> {
    return (await this.replica.status(VM_ID)).lineage ?? [];
  }

  async head(): Promise<RecoveryPoint> {
    const { head } = await this.replica.status(VM_ID);
    if (head === null) throw new Violation("there is no point");
    return head;
  }

  async record(): Promise<RelationshipRecord> {
    const found = await this.#found();
    if (found === null) throw new Violation("there is no relationship");
    return found;
  }

  async state(): Promise<RelationshipRecord["state"]> {
    return (await this.record()).state;
  }

  /** As long as it lives; a host that does not answer says nothing of the kind. */
  isUnchangedSince(pointId: string): Promise<boolean> {
    const leftAt = { forkPointId: pointId, formerHeadId: undefined };
    return this.#engine
      .letGo(VM_ID, leftAt)
      .then(({ isUnchanged }) => isUnchanged)
      .catch(() => false);
  }

  async #found(): Promise<RelationshipRecord | null> {
    const [document] = await this.#store.list("relationships/");
    return (document?.value as RelationshipRecord | undefined) ?? null;
  }

  async #crash(): Promise<void> {
    this.#count("crash of the primary");
    this.life.kill();
    this.#tracker.crash();
    this.#engine = this.#newEngine();
    await this.#engine.start();
  }

  async #driven(work: Promise<unknown>): Promise<void> {
    let isDone = false;
    work.then(
      () => (isDone = true),
      () => (isDone = true),
    );
    for (let step = 0; !isDone && step < 1000; step += 1) {
      await settle();
      if (!isDone) this.#clock.step();
    }
  }

  #requireContent(
    replica: MemoryReplica,
    pointId: string,
    what: string,
    contents: readonly Uint8Array[],
  ): void {
    for (const [index, { diskId, name }] of DISKS.entries()) {
      const there = replica.contentOf(VM_ID, pointId, diskId);
      if (Buffer.compare(there, contents[index] ?? Buffer.alloc(0)) === 0) continue;
      throw new Violation(`${what} what was on ${name}`);
    }
  }

  /** The other host's end of a reversal. */
  async #takeReturned(request: ReturnRequest) {
    const { reversal } = this.#start;
    if (this.#left === null && reversal !== null) {
      this.#left = await reversal.release();
      this.replica.hadBefore(VM_ID, this.#left);
    }
    const taken = await this.replica.takeReturned(request);
    this.#branchPointId ??= taken.status.head?.pointId ?? null;
    return taken;
  }

  #newEngine(): ReplicationEngine {
    this.life = new Incarnation();
    const { life } = this;
    const world = { clock: this.#clock, random: this.#random, weather: this.#weather };
    const endpoint = override<ReplicaEndpoint>(this.replica, {
      takeReturned: (request) => this.#takeReturned(request),
    });
    const serve = (isServed: boolean) => this.guest.serve(isServed);
    const tracker = faultyTracker(world, life, this.#plant(this.#tracker), ({ cut }) =>
      this.#checker.noteCut(cut),
    );
    return new ReplicationEngine({
      store: faultyStore(world, life, this.#store),
      clock: life.clock(this.#clock),
      random: () => this.#random.next(),
      limits: this.#limits,
      cutTogether: cutTogetherInMemory,
      openVm: async () => ({ name: "guest", tracker }),
      openReplica: () => faultyEndpoint(world, life, endpoint),
      setServed: faultyServing(world, life, serve),
    });
  }
}
