import { setTimeout as delay } from "node:timers/promises";
import { toTidemarkError } from "../model/errors.js";
import type { ReplicaStore } from "../replica/replica-store.js";

export interface RetentionOptions {
  readonly store: ReplicaStore;
  readonly retainPoints: number;
  readonly checkIntervalMs: number;
  readonly onWarning: (message: string) => void;
}

/**
 * Looks after the replicas' size: merges the oldest points of a VM into its
 * base when it has a tenth more than it shall keep, so that each merge is worth
 * its while.
 */
export class Retention {
  readonly #options: RetentionOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** A merge under way is interrupted; it goes on at the next start. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { checkIntervalMs } = this.#options;
    while (!signal.aborted) {
      await this.#check(signal).catch((thrown: unknown) =>
        this.#warn("look after the replicas", thrown),
      );
      await delay(checkIntervalMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #check(signal: AbortSignal): Promise<void> {
    const { store, retainPoints } = this.#options;
    for (const { vmId, pointCount, error } of await store.listVms()) {
      if (signal.aborted) return;
      if (error !== null || pointCount <= retainPoints * 1.1) continue;
      await store
        .compact(vmId, retainPoints, signal)
        .catch((thrown: unknown) => this.#warn(`merge old points of VM ${vmId}`, thrown));
    }
  }

  #warn(what: string, thrown: unknown): void {
    if (this.#stopping.signal.aborted) return;
    this.#options.onWarning(`Cannot ${what}: because ${toTidemarkError(thrown).message}`);
  }
}
