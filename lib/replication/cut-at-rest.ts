import type { TargetChanges } from "../model/vm-tracker.js";
import type { ApplicationPoints } from "./application-points.js";

/** A VM of a cut. */
export interface RestingVm {
  readonly applications: ApplicationPoints;
  readonly signal: AbortSignal;
}

/**
 * Takes one cut of VMs, with their applications at rest when that is due for any of them: then
 * all freeze that are to at all, so that they have such points together. Who cannot be frozen
 * in time is cut all the same.
 */
export async function cutAtRest(
  vms: readonly RestingVm[],
  cut: () => Promise<readonly TargetChanges[]>,
): Promise<readonly TargetChanges[]> {
  if (!vms.some(({ applications }) => applications.isDue)) return cut();
  const freezes = await Promise.all(vms.map((vm) => vm.applications.freeze(vm.signal)));
  try {
    const cuts = await cut();
    return cuts.map((changes, index) => {
      const isAtRest = vms[index]?.applications.judge(freezes[index] ?? null) ?? false;
      return isAtRest ? asTakenAtRest(changes) : changes;
    });
  } finally {
    await Promise.all(freezes.map(async (freeze) => freeze?.end()));
  }
}

function asTakenAtRest(changes: TargetChanges): TargetChanges {
  return {
    cut: { ...changes.cut, consistency: "application" },
    get dirtyBytes() {
      return changes.dirtyBytes;
    },
    get segments() {
      return changes.segments;
    },
    source: (deltaId, plan) => changes.source(deltaId, plan),
    release: (plan) => changes.release(plan),
    brokenReason: () => changes.brokenReason(),
    commit: (pointId) => changes.commit(pointId),
    giveBack: () => changes.giveBack(),
    stage: () => changes.stage(),
  };
}
