import { setTimeout as delay } from "node:timers/promises";
import { toTidemarkError } from "../model/errors.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import {
  HIGHEST_PRESSURE,
  pointsToGiveUp,
  policyUnderPressure,
  type RetentionPolicy,
} from "../replica/retention-policy.js";
import { mergePause } from "./merge-pause.js";
import {
  describeShortage,
  describeVainFloor,
  type Shortage,
  shortageOf,
  type Space,
} from "./space-shortage.js";

/** After a merge that failed: what it read and wrote is not worth repeating at once. */
const MERGE_RETRY_MS = 60_000;

export interface RetentionSettings extends RetentionPolicy {
  /** Of a VM's base and layers; null: none. */
  readonly quotaBytes: number | null;
}

/** Test failovers, which keep their points from being given up. */
export interface OpenTests {
  /** For a warning; "" when those VMs have none. */
  describe(vmIds: readonly string[]): Promise<string>;
  /** Where the administrator wants that; answers whether one was ended. */
  endOldest(vmIds: readonly string[]): Promise<boolean>;
}

export interface RetentionOptions {
  readonly store: ReplicaStore;
  readonly settings: RetentionSettings;
  /** What the store's file system has left for others; 0: all of it may be used. */
  readonly freeSpaceFloorBytes: number;
  readonly space: () => Promise<Space>;
  readonly checkIntervalMs: number;
  readonly tests?: OpenTests;
  readonly onWarning: (message: string) => void;
}

/**
 * Looks after the replicas' recovery points and their size: gives up what the policy does
 * not keep, merges what that leaves, and thins more where the room is short. Nothing here
 * ever refuses a commit: what cannot be made room for is a warning.
 */
export class Retention {
  readonly #options: RetentionOptions;
  readonly #stopping = new AbortController();
  readonly #overQuota = new Map<string, string | null>();
  /** By VM, its newest point and their number when all was well: until then nothing ages. */
  readonly #settled = new Map<string, string>();
  readonly #mergeAgainAtMs = new Map<string, number>();
  #underFloor: string | null = null;
  #wake = new AbortController();

  #running: Promise<void> = Promise.resolve();

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** Looks at once, and then every now and then. */
  start(): void {
    this.#running = this.#run();
  }

  /** What an administrator has to know of the VM's replica; none when all is well. */
  warningsOf(vmId: string): string[] {
    const warnings = [this.#overQuota.get(vmId) ?? null, this.#underFloor];
    return warnings.filter((warning) => warning !== null);
  }

  /** The host's settings, with the VM's own in their place. */
  async settingsOf(vmId: string): Promise<RetentionSettings> {
    const { store, settings } = this.#options;
    const own = await store.retention.overrides(vmId);
    return {
      tiers: own.tiers ?? settings.tiers,
      maxPoints: own.maxPoints ?? settings.maxPoints,
      quotaBytes: own.quotaBytes === undefined ? settings.quotaBytes : own.quotaBytes,
    };
  }

  /** Looks again now: points were given up, or the settings are others. */
  wake(): void {
    this.#mergeAgainAtMs.clear();
    this.#settled.clear();
    this.#wake.abort();
  }

  /** A merge under way is interrupted; it goes on at the next start. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const stopping = this.#stopping.signal;
    while (!stopping.aborted) {
      this.#wake = new AbortController();
      await this.check(stopping).catch((thrown: unknown) =>
        this.#report("look after the replicas", thrown),
      );
      const signal = AbortSignal.any([stopping, this.#wake.signal]);
      await delay(this.#options.checkIntervalMs, undefined, { signal, ref: false }).catch(
        () => undefined,
      );
    }
  }

  /** Once for every VM, then for the file system that they share. */
  async check(signal?: AbortSignal): Promise<void> {
    const healthy = (await this.#options.store.listVms()).filter(({ error }) => error === null);
    const vmIds = healthy.map(({ vmId }) => vmId);
    for (const { vmId, head, pointCount } of healthy) {
      signal?.throwIfAborted();
      const state = `${head?.pointId} of ${pointCount}`;
      if (this.#settled.get(vmId) === state) continue;
      await this.#keepWithin(vmId, signal).catch((thrown: unknown) =>
        this.#report(`look after the recovery points of VM ${vmId}`, thrown),
      );
    }
    await this.#keepFloor(vmIds, signal);
  }

  async #keepWithin(vmId: string, signal: AbortSignal | undefined): Promise<void> {
    const { retention } = this.#options.store;
    const settings = await this.settingsOf(vmId);
    const isMerged = await this.#thin(vmId, settings, 0, signal);
    const left = await this.#press(
      [vmId],
      async () => shortageOf("quota", await retention.storedBytes(vmId), settings.quotaBytes),
      signal,
    );
    this.#overQuota.set(vmId, await this.#told(this.#overQuota.get(vmId), left, [vmId]));
    const points = await retention.list(vmId);
    const state = `${points.at(-1)?.point.pointId} of ${points.length}`;
    if (isMerged && left === null) this.#settled.set(vmId, state);
    else this.#settled.delete(vmId);
  }

  async #keepFloor(vmIds: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const { space, freeSpaceFloorBytes } = this.#options;
    const vain = describeVainFloor(freeSpaceFloorBytes, await space());
    if (vain !== null) {
      if (this.#underFloor === null) this.#options.onWarning(vain);
      this.#underFloor = vain;
      return;
    }
    const left = await this.#press(
      vmIds,
      async () => shortageOf("floor", freeSpaceFloorBytes, (await space()).freeBytes),
      signal,
    );
    this.#underFloor = await this.#told(this.#underFloor, left, vmIds);
  }

  /** Until there is room, or nothing is left that may be given up. */
  async #press(
    vmIds: readonly string[],
    shortage: () => Promise<Shortage | null>,
    signal: AbortSignal | undefined,
  ): Promise<Shortage | null> {
    let left = await this.#thinHarder(vmIds, shortage, signal);
    while (left !== null && (await this.#options.tests?.endOldest(vmIds))) {
      left = await this.#thinHarder(vmIds, shortage, signal);
    }
    return left;
  }

  /** Level by level. */
  async #thinHarder(
    vmIds: readonly string[],
    shortage: () => Promise<Shortage | null>,
    signal: AbortSignal | undefined,
  ): Promise<Shortage | null> {
    // Where a merge cannot be made now, more of the past would be lost for nothing.
    const pressed = new Set(vmIds);
    let left = await shortage();
    for (let level = 1; left !== null && level <= HIGHEST_PRESSURE; level += 1) {
      for (const vmId of pressed) {
        const isFree = await this.#merge(vmId, signal);
        if (isFree) await this.#thin(vmId, await this.settingsOf(vmId), level, signal);
        else pressed.delete(vmId);
        left = await shortage();
        if (left === null) return null;
      }
    }
    return left;
  }

  async #thin(
    vmId: string,
    policy: RetentionPolicy,
    level: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { retention } = this.#options.store;
    await retention.giveUp(vmId, (points) =>
      pointsToGiveUp(
        points.map(({ point, chainTimeMs, isPinned, isOpen }) => {
          const { pointId, consistency } = point;
          return { pointId, consistency, chainTimeMs, isHeld: isPinned || isOpen };
        }),
        policyUnderPressure(policy, level),
      ),
    );
    return this.#merge(vmId, signal);
  }

  /** Answers whether all that is given up has left its room. */
  async #merge(vmId: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { store } = this.#options;
    if (performance.now() < (this.#mergeAgainAtMs.get(vmId) ?? 0)) return false;
    try {
      return await store.retention.merge(vmId, { signal, pause: mergePause(store) });
    } catch (thrown) {
      this.#mergeAgainAtMs.set(vmId, performance.now() + MERGE_RETRY_MS);
      this.#report(`merge old points of VM ${vmId}`, thrown);
      return false;
    }
  }

  /** Logged once, until there was room in between. */
  async #told(
    before: string | null | undefined,
    shortage: Shortage | null,
    vmIds: readonly string[],
  ): Promise<string | null> {
    if (shortage === null) return null;
    const tests = (await this.#options.tests?.describe(vmIds)) ?? "";
    const warning = `${describeShortage(shortage)}${tests === "" ? "" : ` ${tests}`}`;
    if ((before ?? null) === null) this.#options.onWarning(warning);
    return warning;
  }

  #report(what: string, thrown: unknown): void {
    if (this.#stopping.signal.aborted) return;
    this.#options.onWarning(`Cannot ${what}: because ${toTidemarkError(thrown).message}`);
  }
}
