import type { RelationshipRecord } from "#lib/model/relationship.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";

/** What a sabotage wraps. */
export interface Seams {
  readonly endpoint: ReplicaEndpoint;
  readonly store: StateStore;
  readonly tracker: VmTracker;
  readonly diskContent: (diskIndex: number) => Uint8Array;
  readonly contentAt: (pointId: string, diskIndex: number) => Uint8Array;
  readonly setServed: (isServed: boolean) => Promise<void>;
  /** Some time passes. */
  readonly pause: () => Promise<void>;
}

export type Plant = (seams: Seams) => Seams;

export async function recordOf(store: StateStore): Promise<RelationshipRecord | undefined> {
  const [document] = await store.list("relationships/");
  return document?.value as RelationshipRecord | undefined;
}
