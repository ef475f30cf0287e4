/**
 * Three hosts and a VM that is replicated to whoever does not run it, in weather: it is handed
 * over, failed over from any point, given back, its replicas are taken over by whichever host
 * has it, replications are reversed, added and removed; processes and lines die all the while.
 * After each step the rules are checked; at the end one host has the VM, and the others hold it.
 */
import type { LineageEntry } from "#lib/model/lineage.js";
import { isGivenAway, type RelationshipRecord } from "#lib/model/relationship.js";
import { TidemarkError } from "#lib/model/errors.js";
import { chooseWeather, halfFull } from "./choices.js";
import { FanOutLeg, type FanOutWorld, type LegDisk } from "./fan-out-leg.js";
import { FanOutOrders } from "./fan-out-orders.js";
import { FanOutRest } from "./fan-out-rest.js";
import { type FanOutSabotage, type Plants, plantsOf } from "./fan-out-sabotage.js";
import type { FanOutScene, SimulatedHost } from "./fan-out-scene.js";
import { CALM } from "./faults.js";
import { Violation } from "./invariants.js";
import { Random } from "./random.js";
import { DISKS, TARGET_ID, VM_ID } from "./scene.js";
import type { SimulationResult } from "./simulation.js";
import { settle, VirtualClock } from "./virtual-clock.js";
import { WatchedReplica } from "./watched-replica.js";

export interface FanOutOptions {
  readonly steps: number;
  /** One rule taken out. */
  readonly sabotage?: FanOutSabotage | undefined;
}

export async function simulateFanOut(
  seed: number,
  { steps, sabotage }: FanOutOptions,
): Promise<SimulationResult> {
  const plants = plantsOf(sabotage);
  const run = new FanOut(seed, plants);
  try {
    await run.play(steps);
    return { violation: null, happened: run.happened };
  } catch (thrown) {
    if (!(thrown instanceof Violation)) throw thrown;
    return { violation: `seed ${seed}: ${thrown.message}`, happened: run.happened };
  } finally {
    for (const leg of run.legs()) leg.end();
    plants.restore();
  }
}

/** Longer than anything in the engine waits. */
const LONGEST_PAUSE_MS = 300_000;
const LONGEST_JUMP_MS = 7 * 86_400_000;

class FanOut implements FanOutScene {
  readonly happened: Record<string, number> = {};
  readonly random: Random;
  readonly clock = new VirtualClock();
  readonly hosts: readonly SimulatedHost[];
  readonly #world: FanOutWorld;
  readonly #orders = new FanOutOrders(this);
  readonly #rest = new FanOutRest(this, this.#orders);
  #failure: Violation | null = null;
  #legCount = 0;

  constructor(seed: number, plants: Plants) {
    this.random = new Random(seed);
    this.hosts = [0, 1, 2].map((index) => this.#newHost(index, plants));
    this.#world = {
      clock: this.clock,
      random: this.random,
      fail: (message) => this.#fail(message),
      count: this.count,
      hosts: this.hosts,
      plant: plants.tracker,
      serve: plants.serve,
    };
    const [first] = this.hosts;
    const disks = DISKS.map((geometry) => {
      return { geometry, content: halfFull(geometry.sizeBytes, this.random) };
    });
    if (first !== undefined) this.#begin(first, null, disks);
  }

  legs(): readonly FanOutLeg[] {
    return this.hosts.flatMap(({ leg }) => (leg === null ? [] : [leg]));
  }

  async play(steps: number): Promise<void> {
    for (const host of this.hosts) Object.assign(host.weather, host.chosenWeather);
    for (let step = 0; step < steps; step += 1) {
      await this.#step();
      for (const leg of this.legs()) if (this.random.chance(0.3)) leg.guest.write();
      await this.#event();
    }
    await this.#rest.come(() => this.#step());
    await this.#check();
  }

  async #step(): Promise<void> {
    await settle();
    await this.#check();
    this.clock.step();
  }

  async #check(): Promise<void> {
    for (const leg of this.legs()) {
      await this.#orders.noteForced(leg);
      await leg.check();
    }
    if (this.#failure !== null) throw this.#failure;
    const serving = this.legs().filter(({ isCertain, guest }) => isCertain && guest.isServed);
    const names = serving.map(({ name }) => name).join(" and ");
    if (serving.length > 1) throw new Violation(`${names} serve the VM, and nobody forced it`);
    for (const { leg, url } of this.hosts) {
      const { watched, former } = { watched: leg?.host.watched, former: leg?.former };
      if (watched?.promotion?.cause !== "planned-failover" || former?.isEnded !== false) continue;
      if (former.guest.isServed && !former.forcedFrom.has(url)) {
        throw new Violation(`${former.name} serves a VM that it has handed over`);
      }
    }
  }

  #fail(message: string): void {
    this.#failure ??= new Violation(message);
  }

  readonly count = (name: string): void => {
    this.happened[name] = (this.happened[name] ?? 0) + 1;
  };

  #newHost(index: number, plants: Plants): SimulatedHost {
    const chosenWeather = chooseWeather(this.random);
    const host: SimulatedHost = {
      url: `https://h${index}.example.com:4443`,
      weather: { ...CALM },
      chosenWeather,
      leg: null,
      skewMs: 0,
      clock: {
        nowMs: () => this.clock.nowMs() + host.skewMs,
        monotonicMs: () => this.clock.monotonicMs(),
        sleep: (delayMs, signal) => this.clock.sleep(delayMs, signal),
      },
      watched: new WatchedReplica(plants.replica(), {
        fail: (message) => this.#fail(message),
        count: (name) => this.count(name),
        promoted: (to, from) => this.#promoted(host, to, from),
        released: (request, to) => this.#released(host, request, to),
        isPrimary: () => host.leg !== null,
      }),
    };
    return host;
  }

  #begin(host: SimulatedHost, former: FanOutLeg | null, disks: readonly LegDisk[]): FanOutLeg {
    const name = `${host.url.slice(8, 10)}#${this.#legCount}`;
    this.#legCount += 1;
    host.leg = new FanOutLeg(name, host, former, disks, this.#world);
    return host.leg;
  }

  /** The VM runs there from that point on; whoever replicated to it may not know yet. */
  #promoted(host: SimulatedHost, to: LineageEntry, from: FanOutLeg | null): void {
    const { watched } = host;
    const former = from ?? this.legs().find(({ name }) => name === watched.owner) ?? null;
    const isPlanned = to.cause === "planned-failover";
    const pointId = to.forkPointId ?? "";
    const { replica } = watched;
    const disks = replica.disksOf(VM_ID, pointId).disks.map((geometry) => {
      return { geometry, content: replica.contentOf(VM_ID, pointId, geometry.diskId) };
    });
    const leg = this.#begin(host, former, disks);
    leg.isCertain = isPlanned && former?.isCertain === true && !former.forcedFrom.has(host.url);
    // The way back is marked before the VM writes anything there.
    void leg.tracker.addTarget(TARGET_ID, isPlanned ? "nothing" : "suspect");
  }

  /** The host that had the VM becomes a replica of the one that has it. */
  async #released(
    host: SimulatedHost,
    request: Parameters<FanOutLeg["release"]>[0],
    to: FanOutLeg,
  ): Promise<void> {
    const { leg: old, watched } = host;
    if (old === null) return;
    const left = await old.release(request, to.host);
    if (left === null) throw new TidemarkError("CONFLICT", "not yet", { retryable: true });
    old.end();
    host.leg = null;
    await watched.forget();
    watched.replica.hadBefore(VM_ID, left);
    this.count(left.isUnchanged ? "returned unchanged" : "returned with writes of its own");
    if (to.isEnded) return;
    // Its failover is complete: it has plain disks, and nobody else is in doubt about it.
    to.former = null;
    await to.host.watched.forget();
    to.isCertain = !this.legs().some((leg) => leg !== to && leg.isCertain);
  }

  async #event(): Promise<void> {
    const dice = this.random.below(1000);
    const host = this.random.pick(this.hosts);
    // Nobody has the VM: whoever notices fails it over.
    if (this.legs().length === 0) return this.#orders.promote(host);
    const leg = this.random.pick(this.legs());
    const records = await leg.records();
    const record = records.length > 0 ? this.random.pick(records) : undefined;
    if (dice < 12) await this.#crash(leg);
    else if (dice < 20) host.watched.replica.crash();
    else if (dice < 32) host.weather.isReplicaDown = !host.weather.isReplicaDown;
    else if (dice < 80 && host.weather.isReplicaDown) host.weather.isReplicaDown = false;
    else if (dice < 84) this.#fill(host);
    else if (dice < 130 && host.weather.isReplicaFull) host.weather.isReplicaFull = false;
    else if (dice < 200) void this.#orders.add(leg, host);
    else if (dice < 240) await this.#orders.reverse(leg);
    else if (dice < 250) await this.#orders.promote(host);
    else if (dice < 275) await this.#orders.cancel(leg);
    else if (record !== undefined && dice < 350) this.#order(leg, record, dice);
    else if (dice < 354) this.#setClock(host);
    else if (dice < 357) this.#pause(leg);
    else if (dice < 367) await this.#changeDisks(leg, records);
  }

  #fill({ weather }: SimulatedHost): void {
    weather.isReplicaFull = !weather.isReplicaFull;
    if (weather.isReplicaFull) this.count("full disk");
  }

  #setClock(host: SimulatedHost): void {
    this.count("clock set");
    host.skewMs = this.random.below(2 * LONGEST_JUMP_MS) - LONGEST_JUMP_MS;
  }

  #pause({ life }: FanOutLeg): void {
    if (life.isPaused) return;
    this.count("pause of a primary");
    life.pause(this.clock.sleep(this.random.below(LONGEST_PAUSE_MS)));
  }

  /** As a host does: not of a VM that goes on elsewhere, or whose failover is not completed. */
  async #changeDisks(leg: FanOutLeg, records: readonly RelationshipRecord[]): Promise<void> {
    const isGiven = records.some(isGivenAway) || !leg.guest.isServed || leg.isAsked;
    if (isGiven || leg.former !== null || leg.host.watched.promotion !== null) return;
    const change = this.random.chance(0.5) ? () => leg.coming.change() : () => leg.resizeDisk();
    if (this.random.chance(0.3)) {
      this.count("crash with other disks");
      return leg.crash(change);
    }
    const changed = () =>
      leg.engine.changeDisks(VM_ID, async () => {
        // A hand-over may have been ordered since.
        if (leg.engine.givenAwayTo(VM_ID) !== null) throw new Error("it is handed over");
        change();
      });
    this.#orders.attempt("change of disks", changed);
  }

  #order(leg: FanOutLeg, record: RelationshipRecord, dice: number): void {
    const { engine } = leg;
    const id = leg.idOf(record);
    const orders = this.#orders;
    if (dice < 310) orders.attempt("hand-over", () => engine.handOver(id));
    else if (dice < 318) orders.attempt("taking back", () => engine.takeBack(id));
    else if (dice < 322) orders.remove(leg, record);
    else if (dice < 330) orders.attempt("suspend", () => engine.suspend(id));
    else orders.attempt("resume", () => engine.resume(id));
  }

  async #crash(leg: FanOutLeg): Promise<void> {
    if (leg.isLeaving) return;
    this.count("crash of a primary");
    if (leg.isAsked) this.count("crash of one that is asked for its disks");
    if ((await leg.records()).some(isGivenAway)) this.count("crash of one that gave the VM away");
    if (!leg.isLeaving) await leg.crash();
  }
}
