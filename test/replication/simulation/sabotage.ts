/**
 * The engine with one rule taken out, by wrapping a seam: for each of them the
 * simulation has to find a violation, else it proves nothing.
 */
import { hashContent } from "#lib/model/block-hashes.js";
import type { ReplicaVmStatus } from "#lib/model/replica-endpoint.js";
import type { SegmentPlan } from "#lib/model/delta.js";
import type { TargetChanges, VmTracker } from "#lib/model/vm-tracker.js";
import { encodeContents } from "../../contracts/segment-bytes.js";
import { override } from "../override.js";
import { FAILOVER_SABOTAGES, type FailoverSabotage } from "./failover-sabotage.js";
import { type Plant, recordOf, type Seams } from "./seams.js";
import { skipping } from "./skipping.js";

export const SABOTAGES = {
  "in-flight bits are cleared before the commit is acknowledged": (seams) => {
    let active: TargetChanges | null = null;
    const tracker = withChanges(seams.tracker, (changes, kind) => {
      if (kind === "checkpoint") active = changes;
      return { ...bound(changes), ...endedElsewhere(changes) };
    });
    const endpoint = override(seams.endpoint, {
      commit: async (request, signal) => {
        await active?.commit().catch(() => {});
        return seams.endpoint.commit(request, signal);
      },
    });
    return { ...seams, tracker, endpoint };
  },

  "a failed delta's bits are not given back": (seams) => ({
    ...seams,
    tracker: withChanges(seams.tracker, (changes) => ({
      ...bound(changes),
      giveBack: () => changes.commit(),
    })),
  }),

  "a comparison takes what was written for a difference": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, {
      compareContent: async (id, diskIndex, ask, range) => {
        const pass = await seams.tracker.compareContent(id, diskIndex, ask, range);
        return pass.writtenBytes === 0 ? pass : { ...pass, differing: [range.fromBytes, 1] };
      },
    }),
  }),

  "a failed delta is not ended": (seams) => ({
    ...seams,
    tracker: withChanges(seams.tracker, (changes) => ({
      ...bound(changes),
      giveBack: async () => {},
    })),
  }),

  "a drain pass is staged before the replica acknowledged it": (seams) => {
    let active: TargetChanges | null = null;
    const tracker = withChanges(seams.tracker, (changes, kind) => {
      if (kind === "drain") active = changes;
      return { ...bound(changes), ...endedElsewhere(changes) };
    });
    const endpoint = override(seams.endpoint, {
      openDelta: async (header, signal) => {
        if (header.kind === "staging") await active?.stage().catch(() => {});
        return seams.endpoint.openDelta(header, signal);
      },
    });
    return { ...seams, tracker, endpoint };
  },

  "a doubt is answered with yes without asking": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      status: async (vmId, signal) => {
        const status = await seams.endpoint.status(vmId, signal);
        const { inDoubt } = (await recordOf(seams.store)) ?? {};
        if (!inDoubt || status.head === null) return status;
        const head = { ...status.head, pointId: inDoubt.deltaId, digest: inDoubt.digest };
        return { ...status, head };
      },
    }),
  }),

  "a doubt is answered with no without asking": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      status: async (vmId, signal) => {
        const status = await seams.endpoint.status(vmId, signal);
        const { inDoubt, headPointId } = (await recordOf(seams.store)) ?? {};
        if (!inDoubt || !headPointId || status.head === null) return status;
        return { ...status, head: { ...status.head, pointId: headPointId } };
      },
    }),
  }),

  "the in-doubt note is not written": (seams) => ({
    ...seams,
    store: override(seams.store, {
      put: (key, value, version) =>
        seams.store.put(key, { ...(value as object), inDoubt: null }, version),
    }),
  }),

  "a delta in doubt is dropped without being abandoned": (seams) => {
    const { endpoint } = seams;
    return { ...seams, endpoint: override(endpoint, { abandon: async () => {} }) };
  },

  "the head is asked for before the delta in doubt is abandoned": (seams) => {
    const { endpoint } = seams;
    let early: ReplicaVmStatus | null = null;
    return {
      ...seams,
      endpoint: override(endpoint, {
        abandon: async (vmId, deltaId, signal) => {
          const { inDoubt } = (await recordOf(seams.store)) ?? {};
          if (inDoubt?.deltaId !== deltaId) return endpoint.abandon(vmId, deltaId, signal);
          const status = await endpoint.status(vmId, signal);
          // The way to the replica and back: what is on its way may arrive now.
          await seams.pause();
          await endpoint.abandon(vmId, deltaId, signal);
          early = status;
        },
        status: async (vmId, signal) => {
          const answer = early ?? (await endpoint.status(vmId, signal));
          early = null;
          return answer;
        },
      }),
    };
  },

  "bits of a lost staging session stay staged": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, { unstage: async () => {} }),
  }),

  "bits stay when the in-doubt delta turns out to be committed": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, { commitInFlight: async () => {} }),
  }),

  "a checkpoint is read from the running disk": (seams) => ({
    ...seams,
    tracker: withChanges(seams.tracker, (changes) => ({
      ...bound(changes),
      brokenReason: () => null,
      source: (deltaId, plan) => ({
        deltaId,
        plan,
        async *records() {
          yield encodeContents(deltaId, plan, readNow(seams, plan));
        },
      }),
    })),
  }),

  "the closing point does not name its staging session": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      openDelta: (header, signal) => {
        const plain = header.kind === "point" ? { ...header, stagingSessionId: null } : header;
        return seams.endpoint.openDelta(plain, signal);
      },
    }),
  }),

  "the replica's hashes are taken from this side": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      blockHashes: async ({ diskIndex, extents, blockBytes }) =>
        hashContent(seams.diskContent(diskIndex), extents, blockBytes),
    }),
  }),

  "a comparison is with another point than the head": (seams) => ({
    ...seams,
    endpoint: override(seams.endpoint, {
      blockHashes: async (request, signal) => {
        const points = await seams.endpoint.points(request.vmId, signal);
        const older = points.at(-2)?.pointId ?? request.pointId;
        const content = seams.contentAt(older, request.diskIndex);
        return hashContent(content, request.extents, request.blockBytes);
      },
    }),
  }),

  "suspicion after the cut does not stop the commit": (seams) => ({
    ...seams,
    tracker: withChanges(seams.tracker, (changes) => ({
      ...bound(changes),
      brokenReason: () => {
        const reason = changes.brokenReason();
        return reason?.includes("suspect") === true ? null : reason;
      },
    })),
  }),

  "a target that has lost its bits starts without them": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, { addTarget: (id) => seams.tracker.addTarget(id) }),
  }),

  "a disk that comes starts without its content": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, {
      addTarget: (id, start, diskIds) =>
        seams.tracker.addTarget(id, start === "allocated" ? "nothing" : start, diskIds),
    }),
  }),

  "a disk that comes back is taken for a new one": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, {
      addTarget: (id, start, diskIds) =>
        seams.tracker.addTarget(
          id,
          start === "suspect" && diskIds !== undefined ? "allocated" : start,
          diskIds,
        ),
    }),
  }),

  "disks that leave are not noted": (seams) => ({
    ...seams,
    store: override(seams.store, {
      put: (key, value, version) =>
        seams.store.put(key, { ...(value as object), departedDiskIds: [] }, version),
    }),
  }),

  "the replica is not told of other disks, and asked by number": (seams) => {
    const { endpoint } = seams;
    return {
      ...seams,
      endpoint: override(endpoint, {
        enable: async (vm, generation, signal) => {
          const known = await endpoint.status(vm.vmId, signal).catch(() => null);
          return known ?? endpoint.enable(vm, generation, signal);
        },
        blockHashes: (request, signal) =>
          endpoint.blockHashes({ ...request, diskId: undefined }, signal),
      }),
    };
  },

  "blocks are known to the replica as soon as they are read": (seams) => ({
    ...seams,
    tracker: skipping(seams, "learns when it reads"),
  }),

  "what is known of the head outlives a staging session": (seams) => ({
    ...seams,
    tracker: skipping(seams, "outlives a staging session"),
  }),

  "what is known of the head outlives a doubt": (seams) => ({
    ...seams,
    tracker: skipping(seams, "outlives a doubt"),
  }),

  "what is left out is judged by the running disk": (seams) => ({
    ...seams,
    tracker: skipping(seams, "looks at the running disk"),
  }),

  "allocated blocks are not marked": (seams) => ({
    ...seams,
    tracker: override(seams.tracker, { markAllocated: async () => 0 }),
  }),
} as const satisfies Record<string, Plant>;

export type Sabotage = keyof typeof SABOTAGES | FailoverSabotage;

export function sabotage(name: Sabotage | undefined, seams: Seams): Seams {
  return name === undefined ? seams : { ...SABOTAGES, ...FAILOVER_SABOTAGES }[name](seams);
}

function withChanges(
  tracker: VmTracker,
  wrap: (changes: TargetChanges, kind: "checkpoint" | "drain") => TargetChanges,
): VmTracker {
  return override(tracker, {
    checkpoint: async (id, options) => wrap(await tracker.checkpoint(id, options), "checkpoint"),
    drain: async (id, options) => wrap(await tracker.drain(id, options), "drain"),
  });
}

function bound(changes: TargetChanges): TargetChanges {
  return {
    cut: changes.cut,
    dirtyBytes: changes.dirtyBytes,
    segments: changes.segments,
    source: (deltaId, plan) => changes.source(deltaId, plan),
    release: (plan) => changes.release(plan),
    brokenReason: () => changes.brokenReason(),
    commit: (pointId) => changes.commit(pointId),
    giveBack: () => changes.giveBack(),
    stage: () => changes.stage(),
  };
}

/** The planted fault ended the changes already; the engine's own end finds nothing. */
function endedElsewhere(changes: TargetChanges) {
  const quietly = (end: () => Promise<void>) => () => end().catch(() => {});
  return {
    commit: (pointId?: string) => changes.commit(pointId).catch(() => {}),
    giveBack: quietly(() => changes.giveBack()),
    stage: quietly(() => changes.stage()),
  };
}

function readNow({ diskContent }: Seams, plan: SegmentPlan): Uint8Array[] {
  const contents: Uint8Array[] = [];
  for (let index = 0; index < plan.extents.length; index += 2) {
    const offset = plan.extents[index] ?? 0;
    contents.push(
      diskContent(plan.diskIndex).slice(offset, offset + (plan.extents[index + 1] ?? 0)),
    );
  }
  return contents;
}
