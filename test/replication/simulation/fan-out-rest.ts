/** The weather is calm: one host keeps the VM, and the others come to hold what it has. */
import type { RelationshipRecord } from "#lib/model/relationship.js";
import type { FanOutLeg } from "./fan-out-leg.js";
import type { FanOutOrders } from "./fan-out-orders.js";
import type { FanOutScene } from "./fan-out-scene.js";
import { CALM } from "./faults.js";
import { Violation } from "./invariants.js";
import { VM_ID } from "./scene.js";

const REST_WITHIN_MS = 600_000;
/** So many steps without a timer mean that nothing goes on by itself. */
const PATIENCE = 10;

export class FanOutRest {
  readonly #scene: FanOutScene;
  readonly #orders: FanOutOrders;

  constructor(scene: FanOutScene, orders: FanOutOrders) {
    this.#scene = scene;
    this.#orders = orders;
  }

  async come(step: () => Promise<void>): Promise<void> {
    const { hosts, clock } = this.#scene;
    for (const host of hosts) Object.assign(host.weather, CALM);
    while (this.#scene.legs().some(({ life }) => life.isPaused)) await step();
    const untilMs = clock.monotonicMs() + REST_WITHIN_MS;
    let idleCount = 0;
    for (let count = 0; !(await this.#isAtRest()); count += 1) {
      const isIdle = clock.timerCount === 0;
      if (isIdle) idleCount += 1;
      // An order interrupts what is under way.
      const isTime = isIdle && idleCount % PATIENCE === 1;
      if (isTime || count % 50 === 0) await this.#settleOnOne();
      if (idleCount > 100 * PATIENCE || clock.monotonicMs() > untilMs) await this.#stuck();
      await step();
    }
  }

  async #stuck(): Promise<never> {
    const all = await Promise.all(this.#scene.legs().map((leg) => leg.describe()));
    throw new Violation(`stuck: ${all.join(" | ")}`);
  }

  async #isAtRest(): Promise<boolean> {
    const [main, other] = this.#scene.legs();
    if (main === undefined || other !== undefined || !main.guest.isServed) return false;
    for (const host of this.#scene.hosts) {
      if (host !== main.host && !(await main.isSettled(host))) return false;
    }
    return true;
  }

  async #settleOnOne(): Promise<void> {
    const legs = this.#scene.legs();
    const main = legs.find(({ host }) => host.watched.promotion === null) ?? legs[0];
    if (main === undefined) return this.#failOver();
    for (const leg of legs) {
      if (leg === main) continue;
      if (leg.host.watched.promotion !== null) await this.#orders.cancel(leg);
      else this.#orders.drop(leg);
    }
    await this.#settleTargets(main);
  }

  /** A failover was cancelled while the host that had the VM before was giving its disks up. */
  async #failOver(): Promise<void> {
    this.#scene.count("failed over as nobody had it");
    for (const host of this.#scene.hosts) {
      await this.#orders.promote(host);
      if (host.leg !== null) return;
    }
    throw new Violation("nobody has the VM, nor a point of it");
  }

  async #settleTargets(main: FanOutLeg): Promise<void> {
    const records = await main.records();
    for (const record of records) await this.#soothe(main, record);
    // A removal that was refused because nobody knew whether it was done is ordered again.
    const noted = new Set(records.map((record) => main.idOf(record)));
    for (const id of main.engine.idsOf(VM_ID)) {
      if (!noted.has(id)) this.#orders.attempt("removal", () => main.engine.remove(id));
    }
    for (const host of this.#scene.hosts) void this.#orders.add(main, host);
  }

  async #soothe(main: FanOutLeg, record: RelationshipRecord): Promise<void> {
    if (record.isEnding === true) return this.#orders.remove(main, record);
    const id = main.idOf(record);
    const status = await main.engine.status(id).catch(() => null);
    const code = status?.lastError?.code;
    const isRefused = status?.state === "error" || status?.state === "handing-over";
    if (isRefused && (code === "FENCED" || code === "CONFLICT")) {
      this.#orders.remove(main, record);
    } else if (status?.state === "handing-over") {
      this.#orders.attempt("taking back", () => main.engine.takeBack(id));
    } else if (status?.state === "failed-over") this.#giveUp(main, record);
    else this.#orders.attempt("resume", () => main.engine.resume(id));
  }

  /** Whoever it was given away to is not a replica of its any more. */
  #giveUp(main: FanOutLeg, record: RelationshipRecord): void {
    const there = this.#scene.hosts.find(({ url }) => url === record.settings.replicaUrl);
    const isElsewhere = there?.watched.owner !== main.name;
    if (isElsewhere) this.#orders.remove(main, record);
    else this.#orders.attempt("resume", () => main.engine.resume(main.idOf(record)));
  }
}
