import type { ApplicationFreezer } from "./application-freezer.js";
import { orAborted } from "./or-aborted.js";

/** Whether the applications are at rest; outlives the processes that freeze and thaw them. */
export interface MemoryApplications {
  isFrozen: boolean;
  /** What freezing and thawing wait for, and fail with. Default: nothing. */
  onFreeze?: (signal: AbortSignal) => Promise<void>;
  onThaw?: (signal: AbortSignal) => Promise<void>;
  /** Freezes that are under way. */
  readonly beginning: Set<string>;
}

export function newMemoryApplications(): MemoryApplications {
  return { isFrozen: false, beginning: new Set() };
}

export class MemoryApplicationFreezer implements ApplicationFreezer {
  readonly #applications: MemoryApplications;

  constructor(applications: MemoryApplications) {
    this.#applications = applications;
  }

  async freeze(freezeId: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const applications = this.#applications;
    applications.beginning.add(freezeId);
    try {
      await orAborted(applications.onFreeze?.(signal) ?? Promise.resolve(), signal);
      // Not any more when it was thawed in the meantime.
      if (applications.beginning.has(freezeId)) applications.isFrozen = true;
    } finally {
      applications.beginning.delete(freezeId);
    }
  }

  async thaw(freezeId: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#applications.beginning.delete(freezeId);
    await orAborted(this.#applications.onThaw?.(signal) ?? Promise.resolve(), signal);
    this.#applications.isFrozen = false;
  }
}
