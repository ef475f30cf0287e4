/**
 * A seeded run of the engine against reference implementations of its seams, in
 * weather: a guest that writes, a network that drops, delays, repeats and
 * damages, stores and trackers that fail, primaries and replicas that crash.
 * After each step the rules are checked; at the end the weather calms, the guest
 * rests, and the replica must come to equal the disks.
 */
import type { ReplicationEvent } from "#lib/model/relationship.js";
import type { TargetChanges } from "#lib/model/vm-tracker.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { cutTogetherInMemory, MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { decodeSegment, encodeContents } from "../../contracts/segment-bytes.js";
import { faultyEndpoint, faultyStore, faultyTracker, type Weather } from "./faults.js";
import { Incarnation } from "./incarnation.js";
import { InvariantChecker, Violation } from "./invariants.js";
import { Random } from "./random.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./scene.js";
import { type Sabotage, sabotage } from "./sabotage.js";
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

const CALM: Weather = { network: 0, store: 0, tracker: 0, isReplicaDown: false };

class Simulation {
  readonly happened: Record<string, number> = {};
  life = new Incarnation();
  readonly #random: Random;
  readonly #options: SimulationOptions;
  readonly #clock = new VirtualClock();
  readonly #store = new MemoryStateStore();
  readonly #replica = new MemoryReplica(decodeSegment);
  readonly #tracker: MemoryVmTracker;
  readonly #checker: InvariantChecker;
  readonly #weather: Weather = { ...CALM };
  readonly #chosenWeather: Weather;
  readonly #limits;
  #engine: ReplicationEngine;
  #writeChance: number;
  #counter = 0;

  constructor(seed: number, options: SimulationOptions) {
    this.#options = options;
    this.#random = new Random(seed);
    const random = this.#random;
    this.#chosenWeather = {
      network: random.pick([0, 0.02, 0.1, 0.3]),
      store: random.pick([0, 0, 0.02]),
      tracker: random.pick([0, 0, 0.02]),
      isReplicaDown: false,
    };
    this.#writeChance = random.pick([0.1, 0.5, 0.9]);
    this.#tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: DISKS.map(({ sizeBytes }) => halfFull(sizeBytes, random)),
      nowMs: () => this.#clock.nowMs(),
      captureBudgetBytes: random.pick([2, 8, 1000]) * GRANULARITY,
    });
    this.#limits = {
      segmentBytes: random.pick([1, 4, 16]) * GRANULARITY,
      parallelSegments: random.pick([1, 4]),
      passBytes: random.pick([8, 1000]) * GRANULARITY,
      closingBytes: random.pick([2, 8]) * GRANULARITY,
      captureBytes: random.pick([16, 1000]) * GRANULARITY,
    };
    this.#checker = new InvariantChecker(this.#replica, this.#tracker, this.#store);
    this.#engine = this.#newEngine();
  }

  async run(): Promise<void> {
    await this.#driven(this.#engine.enable(SETTINGS), "enable");
    Object.assign(this.#weather, this.#chosenWeather);
    for (let step = 0; step < this.#options.steps; step += 1) {
      await settle();
      await this.#checker.check();
      if (this.#random.chance(this.#writeChance)) this.#write();
      await this.#event();
      this.#clock.step();
    }
    await this.#calmDown();
  }

  #newEngine(): ReplicationEngine {
    this.life = new Incarnation();
    const world = { clock: this.#clock, random: this.#random, weather: this.#weather };
    const parts = sabotage(this.#options.sabotage, {
      endpoint: this.#replica,
      store: this.#store,
      tracker: this.#tracker,
      pause: () => this.#clock.sleep(this.#random.below(500)),
      diskContent: (diskIndex) => this.#tracker.contentOf(diskIndex),
      contentAt: (pointId, diskIndex) => this.#replica.contentOf(VM_ID, pointId, diskIndex),
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
    });
    engine.subscribe((event) => this.#onEvent(event));
    return engine;
  }

  #onEvent(event: ReplicationEvent): void {
    if (this.life.isDead) return;
    if (event.type === "cycle") this.#count(event.report.pointId === null ? "empty" : "point");
    if (event.type === "healing") {
      this.#count(event.report.differingBytes === 0 ? "compared" : "healed");
    }
    if (event.type !== "error") return;
    this.#count(event.error.code);
    const { code, message } = event.error;
    if (code === "FENCED" || message.includes("somebody else")) this.#checker.fail(message);
  }

  #count(name: string): void {
    this.happened[name] = (this.happened[name] ?? 0) + 1;
  }

  /** Changed by somebody else, or lost by the storage; what notices that tells the tracker at once. */
  async #changeUnseen(): Promise<void> {
    this.#count("unseen change");
    const diskIndex = this.#random.below(DISKS.length);
    const size = DISKS[diskIndex]?.sizeBytes ?? 0;
    const begin = this.#random.below(size);
    const length = 1 + this.#random.below(size - begin);
    if (this.#random.chance(0.5)) await this.#bringBack(diskIndex, begin, length);
    for (let change = this.#random.below(4); change > 0; change -= 1) {
      const offset = begin + this.#random.below(length);
      const data = Buffer.alloc(1 + this.#random.below(begin + length - offset), this.#counter);
      this.#tracker.writeUnseen(diskIndex, offset, data);
      this.#counter += 1;
    }
    this.#tracker.suspect(diskIndex, begin, length, "lost writes");
  }

  /** Content that the disk had at a recovery point: writes that were lost, or a backup's. */
  async #bringBack(diskIndex: number, begin: number, length: number): Promise<void> {
    const points = await this.#replica.points(VM_ID).catch(() => []);
    const point = this.#random.chance(0.5)
      ? points.at(-1)
      : points[this.#random.below(points.length)];
    if (point === undefined) return;
    const content = this.#replica.contentOf(VM_ID, point.pointId, diskIndex);
    this.#tracker.writeUnseen(diskIndex, begin, content.subarray(begin, begin + length));
  }

  #write(): void {
    const diskIndex = this.#random.below(DISKS.length);
    const size = DISKS[diskIndex]?.sizeBytes ?? 0;
    const offset = this.#random.below(size);
    const length = 1 + this.#random.below(Math.min(3 * GRANULARITY, size - offset));
    this.#counter += 1;
    const data = Buffer.alloc(length);
    if (this.#random.chance(0.9)) for (let i = 0; i < length; i += 1) data[i] = this.#counter + i;
    this.#tracker.write(diskIndex, offset, data);
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
    else if (dice < 50) this.#weather.isReplicaDown = !this.#weather.isReplicaDown;
    else if (this.#weather.isReplicaDown && dice < 90) this.#weather.isReplicaDown = false;
  }

  async #crashPrimary(): Promise<void> {
    if (await this.#checker.isInDoubt()) this.#count("crash in doubt");
    this.#count("crash of the primary");
    this.life.kill();
    this.#tracker.crash();
    this.#engine = this.#newEngine();
    await this.#engine.start();
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
    this.#engine.resume(VM_ID).catch(() => {});
    let calmFromMs = this.#clock.monotonicMs();
    await settle();
    while (!(await this.#checker.isSettled())) {
      // A dead process's note of a suspension may arrive even now.
      if ((await this.#engine.status(VM_ID)).state === "suspended") {
        this.#engine.resume(VM_ID).catch(() => {});
        calmFromMs = this.#clock.monotonicMs();
        await settle();
      }
      if (!this.#clock.step() || this.#clock.monotonicMs() > calmFromMs + 200_000) {
        const status = await this.#engine.status(VM_ID);
        this.#checker.fail(`stuck: ${JSON.stringify(status)}`);
      }
      await settle();
      await this.#checker.check();
    }
    this.#checker.requireEqual();
  }
}

/** A disk on which about every second block is in use. */
function halfFull(sizeBytes: number, random: Random): Uint8Array {
  const content = new Uint8Array(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += GRANULARITY) {
    if (random.chance(0.5)) content.fill(0xaa, offset, offset + GRANULARITY);
  }
  return content;
}
