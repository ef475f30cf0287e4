/**
 * A VM that changes sides: one host's engine replicates it, it is failed over, planned or
 * not, the old primary comes back with what it wrote by itself, and the replication is
 * reversed; again and again, in weather. Each leg has its own engine, tracker and replica,
 * as each host's own are.
 */
import { randomUUID } from "node:crypto";
import { TidemarkError } from "#lib/model/errors.js";
import { type Lineage, presentEntry, successorOf } from "#lib/model/lineage.js";
import type { RecoveryPoint } from "#lib/model/replica-endpoint.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { override } from "../override.js";
import { Leg, type LegStart } from "./leg.js";
import { Violation } from "./invariants.js";
import { Random } from "./random.js";
import { DISKS, VM_ID } from "./scene.js";
import type { SimulationResult } from "./simulation.js";
import { VirtualClock } from "./virtual-clock.js";

export interface RoleSwapOptions {
  readonly swaps: number;
  /** One rule taken out. */
  readonly sabotage?: RoleSwapSabotage | undefined;
}

export const ROLE_SWAP_SABOTAGES = [
  "the old primary's disks are believed to be unchanged",
  "disks that came back are not compared",
  "a returned disk's own writes are left out of its branch point",
  "disks are let go of before this side found out",
] as const;
export type RoleSwapSabotage = (typeof ROLE_SWAP_SABOTAGES)[number];

export async function simulateRoleSwaps(
  seed: number,
  options: RoleSwapOptions,
): Promise<SimulationResult> {
  const run = new RoleSwaps(seed, options);
  try {
    await run.play();
    return { violation: null, happened: run.happened };
  } catch (thrown) {
    if (!(thrown instanceof Violation)) throw thrown;
    return { violation: `seed ${seed}: ${thrown.message}`, happened: run.happened };
  } finally {
    run.leg.life.kill();
  }
}

function neverSuspect(tracker: VmTracker): VmTracker {
  return override(tracker, { addTarget: (id) => tracker.addTarget(id, "nothing") });
}

class RoleSwaps {
  readonly happened: Record<string, number> = {};
  leg: Leg;
  readonly #random: Random;
  readonly #clock = new VirtualClock();
  readonly #options: RoleSwapOptions;

  constructor(seed: number, options: RoleSwapOptions) {
    this.#random = new Random(seed);
    this.#options = options;
    const contents = DISKS.map(({ sizeBytes }) => Buffer.alloc(sizeBytes, 0xaa));
    this.leg = this.#newLeg({ contents, reversal: null });
  }

  async play(): Promise<void> {
    await this.leg.begin();
    await this.leg.settled();
    for (let swap = 0; swap < this.#options.swaps; swap += 1) {
      await this.leg.live(this.#random.below(60));
      await (this.#random.chance(0.5) ? this.#planned() : this.#unplanned());
    }
    await this.leg.settled();
  }

  #newLeg(start: LegStart): Leg {
    const isBlind = this.#options.sabotage === "disks that came back are not compared";
    const plant = isBlind ? neverSuspect : (tracker: VmTracker) => tracker;
    return new Leg(start, this.#clock, this.#random, (name) => this.#count(name), plant);
  }

  async #planned(): Promise<void> {
    const { leg } = this;
    await leg.handedOver();
    const point = await leg.head();
    leg.checkNothingLost(point);
    await this.#swap(await leg.lineage(), point, "planned-failover");
  }

  /** The old primary writes on until it notices; some of that nobody else ever sees. */
  async #unplanned(): Promise<void> {
    const { leg } = this;
    const point = this.#random.pick(await leg.replica.points(VM_ID));
    const { generation: from } = presentEntry(await leg.lineage());
    const id = randomUUID();
    const cause = "unplanned-failover";
    const to = successorOf(from, id, { forkPointId: point.pointId, holderId: id, cause });
    await leg.replica.succeed({ vmId: VM_ID, from, to });
    await this.#swap(await leg.lineage(), point, cause);
  }

  async #swap(lineage: Lineage, { pointId }: RecoveryPoint, cause: string): Promise<void> {
    const old = this.leg;
    const { sabotage } = this.#options;
    this.#count(cause);
    const isPlanned = cause === "planned-failover";
    const isEmptyStart =
      isPlanned || sabotage === "the old primary's disks are believed to be unchanged";
    const contents = old.contentsAt(pointId);
    const next = this.#newLeg({
      contents,
      reversal: {
        lineage,
        start: isEmptyStart ? "nothing" : "suspect",
        release: () => this.#release(old, pointId),
      },
    });
    this.leg = next;
    await next.begin();
    for (let step = 0; !next.hasBranchPoint; step += 1) {
      await Promise.all([old.step(), next.step()]);
      if (step > 4000) throw new Violation("the old primary never becomes the replica");
    }
    old.life.kill();
    next.checkBranchPoint(old);
    await next.settled();
  }

  /** As FormerVms does: what this side has not found out itself it does not believe. */
  async #release(old: Leg, forkPointId: string) {
    const { sabotage } = this.#options;
    const isEarly = sabotage === "disks are let go of before this side found out";
    if (!isEarly && (await old.state()) !== "failed-over") {
      throw new TidemarkError("CONFLICT", "it is not failed over here", { retryable: true });
    }
    const isBlind = sabotage === "the old primary's disks are believed to be unchanged";
    const isUnchanged = isBlind || (await old.isUnchangedSince(forkPointId));
    const isForgetful = sabotage?.startsWith("a returned disk's") === true;
    this.#count(isUnchanged ? "returned unchanged" : "returned with writes of its own");
    return {
      generation: (await old.record()).generation,
      contents: isForgetful
        ? old.idsWith(old.contentsAt(forkPointId))
        : old.idsWith(old.contents()),
      isUnchanged,
    };
  }

  #count(name: string): void {
    this.happened[name] = (this.happened[name] ?? 0) + 1;
  }
}
