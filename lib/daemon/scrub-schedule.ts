import type { Clock } from "../model/clock.js";
import { toTidemarkError } from "../model/errors.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { Verifications } from "../replica/verifications.js";

export interface ScrubScheduleOptions {
  readonly store: ReplicaStore;
  readonly verifications: Verifications;
  readonly clock: Clock;
  /** How old the last whole verification of a VM may become. */
  readonly intervalMs: number;
  readonly checkIntervalMs: number;
  /** When the replica was made; by this one that was never verified is judged. */
  readonly madeAtMs: (vmId: string) => Promise<number>;
  readonly onWarning: (message: string) => void;
}

/** Verifies each replica from time to time; what was found says so in its status. */
export class ScrubSchedule {
  readonly #options: ScrubScheduleOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  /** Of those that did not come to their end: they wait for their turn too. */
  readonly #triedAtMs = new Map<string, number>();
  readonly #seenAtMs = new Map<string, number>();

  constructor(options: ScrubScheduleOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { clock, checkIntervalMs } = this.#options;
    while (!signal.aborted) {
      await this.#check(signal).catch((thrown: unknown) => this.#warn("the replicas", thrown));
      await clock.sleep(checkIntervalMs, signal).catch(() => undefined);
    }
  }

  async #check(signal: AbortSignal): Promise<void> {
    for (const { vmId, pointCount, error } of await this.#options.store.listVms()) {
      if (signal.aborted) return;
      if (error !== null || pointCount === 0) continue;
      await this.#verifyIfDue(vmId).catch((thrown: unknown) => this.#warn(`VM ${vmId}`, thrown));
    }
  }

  async #verifyIfDue(vmId: string): Promise<void> {
    const { verifications, clock } = this.#options;
    const before = await verifications.status(vmId);
    if (before.running !== null) return;
    if (!this.#isDue(vmId, before.last?.endedAtMs ?? (await this.#madeAtMs(vmId)))) return;
    this.#triedAtMs.set(vmId, clock.nowMs());
    await verifications.start(vmId, null);
    const ended = verifications.settled(vmId);
    await Promise.race([ended, aborted(this.#stopping.signal)]);
    const { damagedPoints } = await verifications.status(vmId);
    if (damagedPoints.length === 0) return;
    this.#options.onWarning(
      `The replica of VM ${vmId} is damaged in ${damagedPoints.length} recovery points: run \`tidemark vm verify ${vmId} --status\`.`,
    );
  }

  /** As the file system says, which may not know better than when something last changed there. */
  async #madeAtMs(vmId: string): Promise<number> {
    const { clock, madeAtMs } = this.#options;
    const seenAtMs = this.#seenAtMs.get(vmId) ?? clock.nowMs();
    this.#seenAtMs.set(vmId, seenAtMs);
    return Math.min(seenAtMs, await madeAtMs(vmId).catch(() => seenAtMs));
  }

  #isDue(vmId: string, goodAtMs: number): boolean {
    const now = this.#options.clock.nowMs();
    const last = Math.max(goodAtMs, this.#triedAtMs.get(vmId) ?? 0);
    // A clock that was set back must not put it off for ever.
    return now - last >= this.#options.intervalMs || now < last;
  }

  #warn(what: string, thrown: unknown): void {
    if (this.#stopping.signal.aborted) return;
    this.#options.onWarning(`Cannot verify ${what}: because ${toTidemarkError(thrown).message}`);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
