import { setTimeout as delay } from "node:timers/promises";
import type { ReplicaStore } from "../replica/replica-store.js";

/** Of the time, while deltas arrive: a merge then takes a quarter of it. */
const PAUSE_PER_WORK = 3;

/** Between the pieces of a merge: what arrives comes first. */
export function mergePause(store: ReplicaStore) {
  return async (tookMs: number, signal?: AbortSignal): Promise<void> => {
    if (!store.isReceiving) return;
    const options = signal === undefined ? { ref: false } : { signal, ref: false };
    await delay(tookMs * PAUSE_PER_WORK, undefined, options);
  };
}
