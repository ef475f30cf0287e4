/** What keeps a VM with several targets in one place, taken out one by one. */
import { type ErrorCode, toTidemarkError } from "#lib/model/errors.js";
import type { Succession } from "#lib/model/lineage.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { VmRelationships } from "#lib/replication/vm-relationships.js";
import { decodeSegment } from "../../contracts/segment-bytes.js";
import { override } from "../override.js";
import { VM_ID } from "./scene.js";

export const FAN_OUT_SABOTAGES = [
  "a replica is taken over while its host has the VM",
  "a replica that was taken over takes what its former primary sends",
  "a replica that was taken over is not compared",
  "a VM is handed over beside another hand-over",
  "guests are not withheld from a VM that is handed over",
  "a VM is served when one of its targets gave it back",
] as const;
export type FanOutSabotage = (typeof FAN_OUT_SABOTAGES)[number];

/** What a run is made with. */
export interface Plants {
  readonly replica: () => MemoryReplica;
  readonly tracker: (tracker: VmTracker) => VmTracker;
  readonly serve: (isServed: boolean) => boolean;
  /** The engine is as it was. */
  readonly restore: () => void;
}

export function plantsOf(sabotage: FanOutSabotage | undefined): Plants {
  const isOpen = sabotage === "guests are not withheld from a VM that is handed over";
  return {
    replica: () => replicaOf(sabotage),
    tracker: (tracker) => trackerOf(sabotage, tracker),
    serve: (isServed) => isServed || isOpen,
    restore: patchEngine(sabotage),
  };
}

function trackerOf(sabotage: FanOutSabotage | undefined, tracker: VmTracker): VmTracker {
  switch (sabotage) {
    case "a replica that was taken over is not compared":
      return override(tracker, { addTarget: (id) => tracker.addTarget(id, "nothing") });
    default:
      return tracker;
  }
}

/** It does not refuse to be taken over for that reason. */
class ObligingReplica extends MemoryReplica {
  readonly #reason: ErrorCode;

  constructor(reason: ErrorCode) {
    super(decodeSegment);
    this.#reason = reason;
  }

  protected override requireFork(succession: Succession): void {
    passOver(this.#reason, succession, () => super.requireFork(succession));
  }
}

function passOver(code: ErrorCode, { to }: Succession, check: () => void): void {
  try {
    check();
  } catch (thrown) {
    if (to.cause !== "taken-over" || toTidemarkError(thrown).code !== code) throw thrown;
  }
}

function replicaOf(sabotage: FanOutSabotage | undefined): MemoryReplica {
  switch (sabotage) {
    case "a replica is taken over while its host has the VM":
      return new ObligingReplica("CONFLICT");
    case "a replica that was taken over takes what its former primary sends":
      return unfenced(new MemoryReplica(decodeSegment));
    default:
      return new MemoryReplica(decodeSegment);
  }
}

/** Whatever generation a call names, it is taken for the present one's. */
function unfenced(replica: MemoryReplica): MemoryReplica {
  const present = async () => (await replica.status(VM_ID)).generation;
  const parts: Partial<MemoryReplica> = {
    openStaging: async (vmId) => replica.openStaging(vmId, await present()),
    openDelta: async (header) => replica.openDelta({ ...header, generation: await present() }),
    commit: async (request) => replica.commit({ ...request, generation: await present() }),
  };
  return override(replica, parts);
}

const mayServe = Object.getOwnPropertyDescriptor(VmRelationships.prototype, "mayServe")
  ?.value as (typeof VmRelationships.prototype)["mayServe"];

/** Answers how to put it back. */
function patchEngine(sabotage: FanOutSabotage | undefined): () => void {
  switch (sabotage) {
    case "a VM is handed over beside another hand-over":
      return patch(VmRelationships.prototype, {
        async mayServe(this: VmRelationships, asking) {
          return !asking.isGivenAway || mayServe.call(this, asking);
        },
      });
    case "a VM is served when one of its targets gave it back":
      return patch(VmRelationships.prototype, {
        async mayServe(this: VmRelationships, asking) {
          // Who gives it back is still noted as one that has it.
          return asking.isGivenAway || mayServe.call(this, asking);
        },
      });
    default:
      return () => {};
  }
}

function patch<T extends object>(prototype: T, parts: Partial<T>): () => void {
  const before = Object.getOwnPropertyDescriptors(prototype);
  Object.assign(prototype, parts);
  return () => {
    for (const key of Object.keys(parts)) {
      const descriptor = before[key as keyof T];
      if (descriptor !== undefined) Object.defineProperty(prototype, key, descriptor);
    }
  };
}
