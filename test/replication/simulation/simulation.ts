/**
 * A seeded run of the engine against reference implementations of its seams, in
 * weather: a guest that writes, a network that drops, delays, repeats and
 * damages, stores and trackers that fail, primaries and replicas that crash. After each
 * step the rules are checked; at the end all calms, and the replica must equal the disks.
 */
import type { ReplicationEvent } from "#lib/model/relationship.js";
import type { TargetChanges } from "#lib/model/vm-tracker.js";
import type { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { encodeContents } from "../../contracts/segment-bytes.js";
import { ADMINISTRATION } from "./administration.js";
import {
  CALM,
  faultyEndpoint,
  faultyServing,
  faultyStore,
  faultyTracker,
  type Weather,
} from "./faults.js";
import { chooseLimits, chooseWeather, halfFull } from "./choices.js";
import { ComingDisk } from "./coming-disk.js";
import { Failovers, hasFailovers } from "./failovers.js";
import { Guest } from "./guest.js";
import { Incarnation } from "./incarnation.js";
import { InvariantChecker, Violation } from "./invariants.js";
import { LineageChecker } from "./lineage-checker.js";
import { Random } from "./random.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./scene.js";
import { replicaOf } from "./failover-sabotage.js";
import { type Sabotage, sabotage } from "./sabotage.js";
import { UnseenChanges } from "./unseen-changes.js";
import { settle, VirtualClock } from "./virtual-clock.js";

export interface SimulationResult {
  readonly violation: string | null;
  /** What happened, by name and number of times. */
  readonly happened: Readonly<Record<string, number>>;
}

export interface SimulationOptions {
  readonly steps: number;
  readonly sabotage?: Sabotage;
}

export async function simulate(
  seed: number,
  options: SimulationOptions,
): Promise<SimulationResult> {
  const simulation = new Simulation(seed, options);
  try {
    await simulation.run();
    return { violation: null, happened: simulation.happened };
  } catch (thrown) {
    if (!(thrown instanceof Violation)) throw thrown;
    return { violation: `seed ${seed}: ${thrown.message}`, happened: simulation.happened };
  } finally {
    simulation.life.kill();
  }
}

/** Longer than anything in the engine waits. */
const LONGEST_PAUSE_MS = 300_000;
const LONGEST_JUMP_MS = 7 * 86_400_000;

class Simulation {
  readonly happened: Record<string, number> = {};
  life = new Incarnation();
  readonly #random: Random;
  /** Its own, so that comparing does not change what else happens. */
  readonly #comparing: Random;
  /** Its own too: a guest that writes what is there already, in every second run. */
  readonly #rewriting: Random;
  readonly #isRewriting: boolean;
  readonly #options: SimulationOptions;
  readonly #clock = new VirtualClock();
  readonly #store = new MemoryStateStore();
  readonly #guest: Guest;
  readonly #replica: MemoryReplica;
  readonly #tracker: MemoryVmTracker;
  readonly #checker: InvariantChecker;
  readonly #lineage: LineageChecker;
  /** Null: of this run's VM nobody else is ever the holder. */
  readonly #failovers: Failovers | null;
  readonly #weather: Weather = { ...CALM };
  readonly #chosenWeather: Weather;
  readonly #limits;
  #engine: ReplicationEngine;
  #writeChance: number;
  readonly #coming: ComingDisk;
  readonly #unseen: UnseenChanges;

  constructor(seed: number, options: SimulationOptions) {
    this.#options = options;
    this.#random = new Random(seed);
    this.#replica = replicaOf(options.sabotage);
    this.#comparing = new Random(seed + 1_000_000);
    this.#rewriting = new Random(seed + 2_000_000);
    this.#isRewriting = seed % 2 === 0;
    const random = this.#random;
    this.#chosenWeather = chooseWeather(random);
    this.#writeChance = random.pick([0.1, 0.5, 0.9]);
    this.#tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: DISKS.map(({ sizeBytes }) => halfFull(sizeBytes, random)),
      nowMs: () => this.#clock.nowMs(),
      captureBudgetBytes: random.pick([2, 8, 1000]) * GRANULARITY,
    });
    const count = (name: string) => this.#count(name);
    this.#guest = new Guest(this.#tracker, random, this.#isRewriting ? this.#rewriting : null);
    this.#coming = new ComingDisk(this.#tracker, random, count);
    this.#unseen = new UnseenChanges(this.#tracker, this.#replica, random, count);
    this.#limits = chooseLimits(random);
    this.#checker = new InvariantChecker(this.#replica, this.#tracker, this.#store);
    const fail = (message: string) => this.#checker.fail(message);
    const parts = { replica: this.#replica, tracker: this.#tracker, store: this.#store };
    this.#lineage = new LineageChecker({ ...parts, guest: this.#guest, fail }, this.happened);
    this.#failovers = hasFailovers(seed)
      ? new Failovers(this.#lineage, () => this.#engine, new Random(seed + 3_000_000), count)
      : null;
    this.#engine = this.#newEngine();
  }

  async run(): Promise<void> {
    const settings = { ...SETTINGS, skipUnchanged: this.#isRewriting };
    await this.#driven(this.#engine.enable(settings), "enable");
    Object.assign(this.#weather, this.#chosenWeather);
    for (let step = 0; step < this.#options.steps; step += 1) {
      await settle();
      await this.#check();
      if (this.#random.chance(this.#writeChance)) this.#guest.write();
      await this.#event();
      await this.#failovers?.step();
      await this.#compare();
      this.#changeSkipping();
      this.#clock.step();
    }
    await this.#calmDown();
  }

  async #check(): Promise<void> {
    await this.#lineage.check();
    await this.#checker.check();
  }

  #newEngine(): ReplicationEngine {
    this.life = new Incarnation();
    const world = { clock: this.#clock, random: this.#random, weather: this.#weather };
    const parts = sabotage(this.#options.sabotage, {
      endpoint: this.#lineage.endpoint,
      store: this.#lineage.store,
      tracker: this.#tracker,
      setServed: (isServed) => this.#guest.serve(isServed),
      pause: () => this.#clock.sleep(this.#random.below(500)),
      diskContent: (diskIndex) => this.#tracker.contentOf(diskIndex),
      contentAt: (pointId, diskIndex) => this.#unseen.contentAt(pointId, diskIndex),
    });
    const { life } = this;
    const onCut = (changes: TargetChanges) => this.#checker.noteCut(changes.cut);
    const tracker = faultyTracker(world, life, parts.tracker, onCut);
    const engine = new ReplicationEngine({
      store: faultyStore(world, life, parts.store),
      clock: life.clock(this.#clock),
      random: () => this.#random.next(),
      limits: this.#limits,
      cutTogether: cutTogetherInMemory,
      openVm: async () => ({ name: "guest", tracker }),
      openReplica: () => faultyEndpoint(world, life, parts.endpoint),
      setServed: faultyServing(world, life, parts.setServed),
    });
    engine.subscribe((event) => this.#onEvent(event));
    return engine;
  }

  #onEvent(event: ReplicationEvent): void {
    if (this.life.isDead) return;
    if (event.type === "cycle") this.#count(event.report.pointId === null ? "empty" : "point");
    if (event.type === "cycle" && event.report.unchangedBytes > 0) this.#count("unchanged");
    if (event.type === "healing") {
      this.#count(event.report.differingBytes === 0 ? "compared" : "healed");
    }
    if (event.type !== "error") return;
    this.#count(event.error.code);
    const { code, message } = event.error;
    const isOdd = message.includes("both have gone on") || message.includes("somebody else");
    if (isOdd || (code === "FENCED" && this.#failovers === null)) this.#checker.fail(message);
  }

  #count(name: string): void {
    this.happened[name] = (this.happened[name] ?? 0) + 1;
  }

  #changeSkipping(): void {
    if (!this.#isRewriting || !this.#rewriting.chance(0.005)) return;
    const skipUnchanged = this.#rewriting.chance(0.5);
    this.#engine.change(VM_ID, { skipUnchanged }).catch(() => {});
  }

  async #event(): Promise<void> {
    const dice = this.#random.below(1000);
    const isDoubtful = await this.#checker.isInDoubt();
    if (dice < (isDoubtful ? 60 : 8)) await this.#crashPrimary();
    else if (dice < 12) await this.#restartPrimary();
    else if (dice < 20) this.#crashReplica();
    else if (dice < 22) this.#loseStaging();
    else if (dice < 26) this.#suspendAndResume();
    else if (dice < 34) await this.#changeUnseen();
    else if (dice < 36) await this.#loseBitmap();
    else if (dice < 42) await this.#changeDisks();
    else if (dice < 44) await this.#resizeDisk();
    else if (dice < 50) this.#weather.isReplicaDown = !this.#weather.isReplicaDown;
    else if (this.#weather.isReplicaDown && dice < 90) this.#weather.isReplicaDown = false;
    else if (dice < 96) this.#setWallClock();
    else if (dice < 100) this.#pausePrimary();
    else if (dice < 106) this.#weather.isReplicaFull = !this.#weather.isReplicaFull;
    else if (this.#weather.isReplicaFull && dice < 160) this.#weather.isReplicaFull = false;
    else if (dice >= 980) this.#administer();
  }

  /** Whatever does not fit the state is refused. */
  #administer(): void {
    const [name, act] = this.#random.pick(ADMINISTRATION);
    const intervalMs = this.#random.pick([300, 1000, 4000]);
    act(this.#engine, intervalMs).then(
      () => this.#count(name),
      () => this.#count(`${name} refused`),
    );
  }

  #setWallClock(): void {
    this.#count("clock set");
    this.#clock.setWallClock(this.#random.below(2 * LONGEST_JUMP_MS) - LONGEST_JUMP_MS);
  }

  #pausePrimary(): void {
    if (this.life.isPaused) return;
    this.#count("pause of the primary");
    const pauseMs = this.#random.below(LONGEST_PAUSE_MS);
    this.life.pause(this.#clock.sleep(pauseMs));
  }

  /** What differs has been written, or is suspect: a comparison must never say otherwise. */
  async #compare(): Promise<void> {
    if (this.life.isPaused) return;
    if (this.#comparing.chance(0.03)) {
      await this.#engine.compare(VM_ID, this.#comparing.chance(0.3)).catch(() => {});
    }
    const { comparison } = await this.#engine.status(VM_ID);
    if (comparison === null) return;
    if (comparison.state === "done") this.#count("compared whole");
    if (comparison.differingBytes === 0) return;
    this.#checker.fail(`a comparison found ${JSON.stringify(comparison.disks)}`);
  }

  async #crashPrimary(): Promise<void> {
    if (await this.#checker.isInDoubt()) this.#count("crash in doubt");
    this.#count("crash of the primary");
    this.life.kill();
    this.#tracker.crash();
    this.#engine = this.#newEngine();
    await this.#engine.start();
  }

  /** Whoever gives a VM away leaves its disks alone. */
  async #changeUnseen(): Promise<void> {
    if (this.#guest.isServed) await this.#unseen.change();
  }

  /** The process died, its bitmap is gone, and somebody wrote to the disks. */
  async #loseBitmap(): Promise<void> {
    this.#count("bitmap lost");
    this.life.kill();
    this.#tracker.crash();
    await this.#tracker.removeTarget(TARGET_ID);
    if (this.#random.chance(0.5)) await this.#changeUnseen();
    this.#engine = this.#newEngine();
    await this.#engine.start();
  }

  /** A disk is added, or removed; the process may die as soon as that is noted. */
  async #changeDisks(): Promise<void> {
    if (!this.#guest.isServed) return;
    const change = () => this.#coming.change();
    if (this.#random.chance(0.5)) {
      this.#count("crash with other disks");
      this.life.kill();
      this.#tracker.crash();
      change();
      this.#engine = this.#newEngine();
      return this.#engine.start();
    }
    if (this.life.isPaused) return;
    const changed = this.#engine.changeDisks(VM_ID, async () => change());
    await this.#driven(
      changed.catch(() => this.#count("change of disks refused")),
      "change of disks",
    );
  }

  /** As a host does: not while a cut is open. */
  async #resizeDisk(): Promise<void> {
    if (this.life.isPaused || !this.#guest.isServed) return;
    const diskIndex = this.#random.below(this.#tracker.disks.length);
    const sizeBytes = 1 + this.#random.below(26 * GRANULARITY);
    const resized = this.#engine.changeDisks(VM_ID, async () => {
      this.#count("disk resized");
      this.#tracker.resizeDisk(diskIndex, sizeBytes);
    });
    await this.#driven(
      resized.catch(() => this.#count("change of disks refused")),
      "resize",
    );
  }

  async #restartPrimary(): Promise<void> {
    this.#count("restart of the primary");
    await this.#driven(this.#engine.close(), "close");
    this.life.kill();
    await this.#checker.check();
    // As a tracker that is opened again: what was left in flight is pending.
    this.#tracker.crash();
    this.#engine = this.#newEngine();
    await this.#engine.start();
  }

  /** Waits while time goes on. */
  async #driven(work: Promise<void>, name: string): Promise<void> {
    let isDone = false;
    const done = work.finally(() => {
      isDone = true;
    });
    for (let step = 0; !isDone; step += 1) {
      await settle();
      if (step > 1000) throw new Violation(`${name} does not end`);
      if (!isDone) this.#clock.step();
    }
    await done;
  }

  #crashReplica(): void {
    this.#count("crash of the replica");
    this.#replica.crash();
  }

  #loseStaging(): void {
    try {
      this.#replica.loseStaging(VM_ID);
      this.#count("staging lost");
    } catch {
      // Not enabled at the replica yet.
    }
  }

  #suspendAndResume(): void {
    this.#count("suspend");
    const refused = () => this.#count("suspend or resume refused");
    this.#engine.suspend(VM_ID).catch(refused);
    this.#engine.resume(VM_ID).catch(refused);
  }

  async #calmDown(): Promise<void> {
    Object.assign(this.#weather, CALM);
    while (this.life.isPaused && this.#clock.step()) await settle();
    this.#engine.resume(VM_ID).catch(() => {});
    let calmFromMs = this.#clock.monotonicMs();
    await this.#failovers?.calmDown();
    await settle();
    while (!(await this.#isAtRest())) {
      const { state } = await this.#engine.status(VM_ID);
      if (state === "ready") this.#engine.startInitial(VM_ID).catch(() => {});
      if (state === "resynchronization-required") {
        this.#engine.resynchronize(VM_ID).catch(() => {});
      }
      // A dead process's note of a suspension may arrive even now.
      if (state === "suspended") {
        this.#engine.resume(VM_ID).catch(() => {});
        calmFromMs = this.#clock.monotonicMs();
        await settle();
      }
      if (!this.#clock.step() || this.#clock.monotonicMs() > calmFromMs + 200_000) {
        const status = await this.#engine.status(VM_ID);
        this.#checker.fail(`stuck: ${JSON.stringify(status)}`);
      }
      await settle();
      await this.#check();
    }
    if (this.#guest.isServed) this.#checker.requireEqual();
    else this.#count("rest after a failover");
  }

  /** Replicating and equal, or the VM is the replica's. */
  async #isAtRest(): Promise<boolean> {
    if (await this.#lineage.isGivenAway()) return true;
    return (await this.#lineage.isHolder()) && (await this.#checker.isSettled());
  }
}
