/** What keeps a VM in one place, taken out one by one. */
import { randomUUID } from "node:crypto";
import { type LineageEntry, presentEntry } from "#lib/model/lineage.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import type { ReplicaVmStatus } from "#lib/model/replica-endpoint.js";
import { decodeSegment } from "../../contracts/segment-bytes.js";
import { override } from "../override.js";
import { type Plant, recordOf, type Seams } from "./seams.js";
import { TARGET_ID, VM_ID } from "./scene.js";

export const FAILOVER_SABOTAGES = {
  "guests are not withheld before the last cut": (seams) => ({
    ...seams,
    setServed: async (isServed) => {
      const { lineage = [] } = await seams.endpoint.status(VM_ID);
      if (isServed || lineage.length > 1) await seams.setServed(isServed);
    },
  }),

  "the hand-over asks before all is sent": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, {
      progress: async (id) => {
        const progress = await seams.tracker.progress(id);
        if ((await recordOf(seams.store))?.state !== "handing-over") return progress;
        return { ...progress, pendingBytes: 0, inFlightBytes: 0, stagedBytes: 0, suspectBytes: 0 };
      },
    }),
  }),

  "a question that is asked again is another one": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      succeed: (succession, signal) => {
        const { to } = succession;
        const generation = { ...to.generation, id: randomUUID() };
        const holderId = to.holderId === to.generation.id ? generation.id : to.holderId;
        return seams.endpoint.succeed(
          { ...succession, to: { ...to, generation, holderId } },
          signal,
        );
      },
    }),
  }),

  "a VM is taken back without asking the replica": (seams) => {
    let believed: LineageEntry | null = null;
    const asBelieved = (status: ReplicaVmStatus): ReplicaVmStatus => {
      if (believed === null) return status;
      const { number } = believed.generation;
      const before = (status.lineage ?? []).filter(({ generation }) => generation.number < number);
      return { ...status, generation: believed.generation, lineage: [...before, believed] };
    };
    return {
      ...seams,
      endpoint: override(seams.endpoint, {
        succeed: async (succession, signal) => {
          if (succession.to.cause !== "cancelled") {
            return seams.endpoint.succeed(succession, signal);
          }
          believed = succession.to;
          return asBelieved(await seams.endpoint.status(VM_ID));
        },
        status: async (vmId, signal) => asBelieved(await seams.endpoint.status(vmId, signal)),
      }),
    };
  },

  "a primary that was superseded does not notice": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      status: async (vmId, signal) => asBefore(seams, await seams.endpoint.status(vmId, signal)),
    }),
  }),

  "a VM that came back is not served": (seams) => ({
    ...seams,
    setServed: async (isServed) => {
      if (!isServed) await seams.setServed(isServed);
    },
  }),

  "a VM that came back is copied whole": (seams) => ({
    ...seams,
    setServed: async (isServed) => {
      await seams.setServed(isServed);
      if (isServed) await seams.tracker.markAllocated(TARGET_ID).catch(() => 0);
    },
  }),

  "a promotion keeps what was staged": (seams) => seams,
  "a promotion may be from anywhere": (seams) => seams,
} as const satisfies Record<string, Plant>;

export type FailoverSabotage = keyof typeof FAILOVER_SABOTAGES;

class KeepingReplica extends MemoryReplica {
  protected override dropUnfinished(): void {}
}

class CarelessReplica extends MemoryReplica {
  protected override requireFork(): void {}
}

export function replicaOf(sabotage: string | undefined): MemoryReplica {
  if (sabotage === "a promotion keeps what was staged") return new KeepingReplica(decodeSegment);
  if (sabotage === "a promotion may be from anywhere") return new CarelessReplica(decodeSegment);
  return new MemoryReplica(decodeSegment);
}

/** As if the primary's generation were the present one still. */
async function asBefore({ store }: Seams, status: ReplicaVmStatus): Promise<ReplicaVmStatus> {
  const { lineage = [] } = status;
  const own = (await recordOf(store))?.generation.number ?? Number.POSITIVE_INFINITY;
  const before = lineage.filter(({ generation }) => generation.number <= own);
  return before.length === 0
    ? status
    : { ...status, lineage: before, generation: presentEntry(before).generation };
}
