import { randomUUID } from "node:crypto";
import { presentEntry, successorOf } from "#lib/model/lineage.js";
import type { ReplicationEngine } from "#lib/replication/replication-engine.js";
import type { LineageChecker } from "./lineage-checker.js";
import type { Random } from "./random.js";
import { VM_ID } from "./scene.js";

/** Their share of the seeds. */
export function hasFailovers(seed: number): boolean {
  return seed % 4 === 0;
}

/** What administrators of both sides do with a VM, whenever they like; what does not fit is refused. */
export class Failovers {
  readonly #lineage: LineageChecker;
  readonly #engine: () => ReplicationEngine;
  readonly #random: Random;
  readonly #count: (name: string) => void;

  constructor(
    lineage: LineageChecker,
    engine: () => ReplicationEngine,
    random: Random,
    count: (name: string) => void,
  ) {
    this.#lineage = lineage;
    this.#engine = engine;
    this.#random = random;
    this.#count = count;
  }

  async step(): Promise<void> {
    const dice = this.#random.below(1000);
    if (dice < 20) this.#order("hand-over", (engine) => engine.handOver(VM_ID));
    else if (dice < 28) this.#order("taking back", (engine) => engine.takeBack(VM_ID));
    else if (dice < 33) await this.#promote();
    else if (dice < 53) await this.#cancel();
  }

  /** The VM stays where it is, or its primary gets it back. */
  async calmDown(): Promise<void> {
    if (this.#random.chance(0.5)) await this.#cancel();
  }

  #order(name: string, act: (engine: ReplicationEngine) => Promise<void>): void {
    act(this.#engine()).then(
      () => this.#count(name),
      () => this.#count(`${name} refused`),
    );
  }

  /** From any point that is kept, or from one that is not there. */
  async #promote(): Promise<void> {
    const { replica } = this.#lineage;
    const points = await replica.points(VM_ID).catch(() => []);
    if (points.length === 0) return;
    const isThere = this.#random.chance(0.9);
    const { pointId } = this.#random.pick(points);
    const id = randomUUID();
    const forkPointId = isThere ? pointId : randomUUID();
    await this.#succeed(id, { forkPointId, holderId: id, cause: "unplanned-failover" });
  }

  async #cancel(): Promise<void> {
    const lineage = await this.#lineage.lineage();
    if (lineage === null || !this.#lineage.isReplicas(presentEntry(lineage))) return;
    const holderId = lineage[0]?.holderId ?? "";
    await this.#succeed(randomUUID(), { forkPointId: null, holderId, cause: "cancelled" });
  }

  async #succeed(id: string, rest: Parameters<typeof successorOf>[2]): Promise<void> {
    const lineage = await this.#lineage.lineage();
    if (lineage === null) return;
    const from = presentEntry(lineage).generation;
    const to = successorOf(from, id, rest);
    await this.#lineage.replica
      .succeed({ vmId: VM_ID, from, to })
      .catch(() => this.#count("succession refused"));
  }
}
