/**
 * Three hosts and a VM that is replicated to whoever does not run it, in weather: it is handed
 * over, failed over from any point, given back, its replicas are taken over by whichever host
 * has it, replications are reversed, added and removed; processes and lines die all the while.
 * After each step the rules are checked; at the end one host has the VM, and the others hold it.
 */
import { randomUUID } from "node:crypto";
import { takeReplicaOver } from "#lib/daemon/take-replica-over.js";
import { type LineageEntry, presentEntry, successorOf } from "#lib/model/lineage.js";
import type { NewRelationshipSettings } from "#lib/model/relationship-settings.js";
import { isGivenAway, type RelationshipRecord } from "#lib/model/relationship.js";
import { TidemarkError } from "#lib/model/errors.js";
import { chooseWeather, halfFull } from "./choices.js";
import { FanOutLeg, type FanOutHost, type FanOutWorld } from "./fan-out-leg.js";
import { type FanOutSabotage, type Plants, plantsOf } from "./fan-out-sabotage.js";
import { CALM, type Weather } from "./faults.js";
import { Violation } from "./invariants.js";
import { Random } from "./random.js";
import { DISKS, SETTINGS, TARGET_ID, VM_ID } from "./scene.js";
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

const REST_WITHIN_MS = 600_000;

interface SimulatedHost extends FanOutHost {
  leg: FanOutLeg | null;
  readonly chosenWeather: Weather;
}

class FanOut {
  readonly happened: Record<string, number> = {};
  readonly #random: Random;
  readonly #clock = new VirtualClock();
  readonly #hosts: readonly SimulatedHost[];
  readonly #world: FanOutWorld;
  #failure: Violation | null = null;
  #legCount = 0;

  constructor(seed: number, plants: Plants) {
    this.#random = new Random(seed);
    this.#hosts = [0, 1, 2].map((index) => this.#newHost(index, plants));
    this.#world = {
      clock: this.#clock,
      random: this.#random,
      fail: (message) => this.#fail(message),
      hosts: this.#hosts,
      plant: plants.tracker,
    };
    const [first] = this.#hosts;
    const contents = DISKS.map(({ sizeBytes }) => halfFull(sizeBytes, this.#random));
    if (first !== undefined) this.#begin(first, null, contents);
  }

  legs(): readonly FanOutLeg[] {
    return this.#hosts.flatMap(({ leg }) => (leg === null ? [] : [leg]));
  }

  async play(steps: number): Promise<void> {
    for (const host of this.#hosts) Object.assign(host.weather, host.chosenWeather);
    for (let step = 0; step < steps; step += 1) {
      await this.#step();
      for (const leg of this.legs()) if (this.#random.chance(0.3)) leg.guest.write();
      await this.#event();
    }
    await this.#calmDown();
  }

  async #step(): Promise<void> {
    await settle();
    await this.#check();
    this.#clock.step();
  }

  async #check(): Promise<void> {
    for (const leg of this.legs()) await leg.check();
    if (this.#failure !== null) throw this.#failure;
    const serving = this.legs().filter(({ isCertain, guest }) => isCertain && guest.isServed);
    const names = serving.map(({ name }) => name).join(" and ");
    if (serving.length > 1) throw new Violation(`${names} serve the VM, and nobody forced it`);
    for (const { leg } of this.#hosts) {
      const { watched, former } = { watched: leg?.host.watched, former: leg?.former };
      if (watched?.promotion?.cause !== "planned-failover" || former?.isEnded !== false) continue;
      if (former.guest.isServed && former.removed.size === 0) {
        throw new Violation(`${former.name} serves a VM that it has handed over`);
      }
    }
  }

  #fail(message: string): void {
    this.#failure ??= new Violation(message);
  }

  #count(name: string): void {
    this.happened[name] = (this.happened[name] ?? 0) + 1;
  }

  #newHost(index: number, plants: Plants): SimulatedHost {
    const chosenWeather = chooseWeather(this.#random);
    const host: SimulatedHost = {
      url: `https://h${index}.example.com:4443`,
      weather: { ...CALM },
      chosenWeather,
      leg: null,
      watched: new WatchedReplica(plants.replica(), {
        fail: (message) => this.#fail(message),
        count: (name) => this.#count(name),
        promoted: (to, from) => this.#promoted(host, to, from),
        released: (request, to) => this.#released(host, request, to),
        isPrimary: () => host.leg !== null,
      }),
    };
    return host;
  }

  #begin(
    host: SimulatedHost,
    former: FanOutLeg | null,
    contents: readonly Uint8Array[],
  ): FanOutLeg {
    const name = `${host.url.slice(8, 10)}#${this.#legCount}`;
    this.#legCount += 1;
    host.leg = new FanOutLeg(name, host, former, contents, this.#world);
    return host.leg;
  }

  /** The VM runs there from that point on; whoever replicated to it may not know yet. */
  #promoted(host: SimulatedHost, to: LineageEntry, from: FanOutLeg | null): void {
    const { watched } = host;
    const former = from ?? this.legs().find(({ name }) => name === watched.owner) ?? null;
    const isPlanned = to.cause === "planned-failover";
    const pointId = to.forkPointId ?? "";
    const contents = DISKS.map(({ diskId }) => watched.replica.contentOf(VM_ID, pointId, diskId));
    const leg = this.#begin(host, former, contents);
    leg.isCertain = isPlanned && former?.isCertain === true && former.removed.size === 0;
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
    this.#count(left.isUnchanged ? "returned unchanged" : "returned with writes of its own");
    // Its failover is complete: it has plain disks, and nobody else is in doubt about it.
    to.former = null;
    await to.host.watched.forget();
    to.isCertain = !this.legs().some((leg) => leg !== to && leg.isCertain);
  }

  async #event(): Promise<void> {
    const dice = this.#random.below(1000);
    const host = this.#random.pick(this.#hosts);
    const leg = this.#random.pick(this.legs());
    const records = await leg.records();
    const record = records.length > 0 ? this.#random.pick(records) : undefined;
    if (dice < 12) await this.#crash(leg);
    else if (dice < 20) host.watched.replica.crash();
    else if (dice < 32) host.weather.isReplicaDown = !host.weather.isReplicaDown;
    else if (dice < 80 && host.weather.isReplicaDown) host.weather.isReplicaDown = false;
    else if (dice < 84) host.weather.isReplicaFull = !host.weather.isReplicaFull;
    else if (dice < 130 && host.weather.isReplicaFull) host.weather.isReplicaFull = false;
    else if (dice < 200) void this.#add(leg, host);
    else if (dice < 240) await this.#reverse(leg);
    else if (dice < 250) await this.#promote(host);
    else if (dice < 275) await this.#cancel(leg);
    else if (record !== undefined && dice < 350) this.#order(leg, record, dice);
  }

  #order(leg: FanOutLeg, record: RelationshipRecord, dice: number): void {
    const { engine } = leg;
    const id = leg.idOf(record);
    if (dice < 310) this.#try("hand-over", () => engine.handOver(id));
    else if (dice < 318) this.#try("taking back", () => engine.takeBack(id));
    else if (dice < 322) this.#remove(leg, record);
    else if (dice < 330) this.#try("suspend", () => engine.suspend(id));
    else this.#try("resume", () => engine.resume(id));
  }

  /** Not waited for; whatever does not fit the state is refused. */
  #try(name: string, order: () => Promise<void>): void {
    const ordered = async () => order();
    ordered().then(
      () => this.#count(name),
      () => this.#count(`${name} refused`),
    );
  }

  #remove(leg: FanOutLeg, record: RelationshipRecord): void {
    const { settings } = record;
    if (isGivenAway(record)) {
      this.#count("removal of one that has the VM");
      leg.removed.add(settings.targetId);
      const there = this.#hosts.find(({ url }) => url === settings.replicaUrl)?.leg;
      if (there?.former === leg) there.isCertain = false;
    }
    this.#try("removal", () => leg.engine.remove(leg.idOf(record)));
  }

  async #crash(leg: FanOutLeg): Promise<void> {
    if (leg.isAsked) return;
    this.#count("crash of a primary");
    if ((await leg.records()).some(isGivenAway)) this.#count("crash of one that gave the VM away");
    await leg.crash();
  }

  /** One more target: by a first copy, or by taking the replica over that is there. */
  async #add(leg: FanOutLeg, host: SimulatedHost): Promise<void> {
    const records = await leg.records();
    const isThere = records.some(({ settings }) => settings.replicaUrl === host.url);
    if (leg.host === host || isThere || leg.adding.has(host.url) || leg.isEnded) return;
    // As long as guests are kept away it is another host's, or being removed as such.
    if (records.some(isGivenAway) || (records.length > 0 && !leg.guest.isServed)) return;
    leg.adding.add(host.url);
    try {
      await this.#addNow(leg, host);
    } catch {
      this.#count("adding refused");
    } finally {
      leg.adding.delete(host.url);
    }
  }

  async #addNow(leg: FanOutLeg, host: SimulatedHost): Promise<void> {
    // With its last target the VM was removed; it is defined anew.
    if ((await leg.records()).length === 0) leg.guest.isServed = true;
    const isReserved = leg.former !== null || leg.engine.has(VM_ID);
    const targetName = isReserved || this.#random.chance(0.5) ? host.url.slice(8, 10) : undefined;
    const settings = this.#settingsTo(host, randomUUID(), targetName);
    if ((await host.watched.status()) === null) {
      await leg.watch(settings.targetId, host);
      await leg.engine.enable(settings);
      return this.#count("enabled");
    }
    const status = await takeReplicaOver(leg.endpointTo(host), "guest", settings);
    await leg.watch(settings.targetId, host);
    await leg.engine.takeOver(settings, status);
    this.#count("taken over and noted");
  }

  #settingsTo(
    { url: replicaUrl }: FanOutHost,
    targetId: string,
    targetName: string | undefined,
  ): NewRelationshipSettings {
    const intervalMs = this.#random.pick([500, 1000, 3000]);
    return { ...SETTINGS, targetId, targetName, replicaUrl, intervalMs };
  }

  async #reverse(leg: FanOutLeg): Promise<void> {
    const { former } = leg;
    if (former === null || former.isEnded || leg.engine.has(VM_ID)) return;
    const status = await leg.host.watched.status();
    if (status?.lineage === undefined || leg.adding.has(former.host.url)) return;
    await leg.watch(TARGET_ID, former.host);
    const settings = this.#settingsTo(former.host, TARGET_ID, undefined);
    const { lineage } = status;
    this.#try("reversal", () => leg.engine.reverse(settings, lineage));
  }

  /** By mistake, or because the primary seems to be gone. */
  async #promote({ watched, leg }: SimulatedHost): Promise<void> {
    const status = await watched.status();
    if (leg !== null || status?.lineage === undefined) return;
    const points = await watched.replica.points(VM_ID);
    const usable = points.filter(({ pointId }) => !watched.branchPointIds.has(pointId));
    if (usable.length === 0) return;
    const { pointId } = this.#random.pick(usable);
    await this.#succeed(watched, "unplanned-failover", pointId, null);
  }

  /** What the VM wrote there is dropped; refused while it is replicated from there. */
  async #cancel(leg: FanOutLeg): Promise<void> {
    const { watched } = leg.host;
    const { promotion } = watched;
    if (promotion === null) return;
    const records = await leg.records();
    if (records.length > 0 || leg.adding.size > 0) {
      for (const record of records) this.#remove(leg, record);
      return;
    }
    this.#drop(leg);
    const { lineage = [] } = (await watched.status()) ?? {};
    const former = lineage.find(({ generation }) => generation.id === promotion.parentId);
    await this.#succeed(watched, "cancelled", promotion.forkPointId, former?.holderId ?? null);
  }

  #drop(leg: FanOutLeg): void {
    leg.end();
    for (const host of this.#hosts) if (host.leg === leg) host.leg = null;
  }

  async #succeed(
    watched: WatchedReplica,
    cause: LineageEntry["cause"],
    forkPointId: string | null,
    holderId: string | null,
  ): Promise<void> {
    const { lineage = [] } = (await watched.status()) ?? {};
    const { generation: from } = presentEntry(lineage);
    const id = randomUUID();
    const to = successorOf(from, id, { forkPointId, holderId: holderId ?? id, cause });
    await watched
      .succeed({ vmId: VM_ID, from, to }, null)
      .catch(() => this.#count("succession refused"));
  }

  /** One host keeps the VM, and the others come to hold what it has. */
  async #calmDown(): Promise<void> {
    for (const host of this.#hosts) Object.assign(host.weather, CALM);
    const untilMs = this.#clock.monotonicMs() + REST_WITHIN_MS;
    let idleCount = 0;
    for (let step = 0; !(await this.#isAtRest()); step += 1) {
      const isIdle = this.#clock.timerCount === 0;
      if (isIdle || step % 50 === 0) await this.#settleOnOne();
      if (isIdle) idleCount += 1;
      if (idleCount > 100 || this.#clock.monotonicMs() > untilMs) {
        const all = await Promise.all(this.legs().map((leg) => leg.describe()));
        throw new Violation(`stuck: ${all.join(" | ")}`);
      }
      await this.#step();
    }
    await this.#check();
  }

  async #isAtRest(): Promise<boolean> {
    const [main, other] = this.legs();
    if (main === undefined || other !== undefined || !main.guest.isServed) return false;
    for (const host of this.#hosts) {
      if (host !== main.host && !(await main.isSettled(host))) return false;
    }
    return true;
  }

  async #settleOnOne(): Promise<void> {
    const main = this.legs().find(({ host }) => host.watched.promotion === null) ?? this.legs()[0];
    if (main === undefined) throw new Violation("nobody has the VM");
    for (const leg of this.legs()) {
      if (leg === main) continue;
      if (leg.host.watched.promotion !== null) await this.#cancel(leg);
      else this.#drop(leg);
    }
    for (const record of await main.records()) await this.#soothe(main, record);
    for (const host of this.#hosts) void this.#add(main, host);
  }

  async #soothe(main: FanOutLeg, record: RelationshipRecord): Promise<void> {
    const id = main.idOf(record);
    const status = await main.engine.status(id).catch(() => null);
    const code = status?.lastError?.code;
    if (status?.state === "error" && (code === "FENCED" || code === "CONFLICT")) {
      this.#remove(main, record);
    } else if (status?.state === "handing-over")
      this.#try("taking back", () => main.engine.takeBack(id));
    else if (status?.state === "failed-over") this.#giveUp(main, record);
    else this.#try("resume", () => main.engine.resume(id));
  }

  /** Whoever it was given away to is not a replica of its any more. */
  #giveUp(main: FanOutLeg, record: RelationshipRecord): void {
    const there = this.#hosts.find(({ url }) => url === record.settings.replicaUrl);
    const isElsewhere = there?.watched.owner !== main.name;
    if (isElsewhere) this.#remove(main, record);
    else this.#try("resume", () => main.engine.resume(main.idOf(record)));
  }
}
