import type { ReplicatedVm } from "../model/disk.js";
import type { TidemarkError } from "../model/errors.js";
import { type LineageEntry, presentEntry } from "../model/lineage.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { VmReplica } from "./vm-replica.js";

/** What the replica's own administrator sees of a VM, damaged or not. */
export interface ReplicaVmSummary {
  readonly vmId: string;
  /** Null when not even that can be read. */
  readonly vm: ReplicatedVm | null;
  readonly head: RecoveryPoint | null;
  readonly pointCount: number;
  /** The generation by which the VM runs on this host; null: it does not. */
  readonly promotion: LineageEntry | null;
  readonly error: TidemarkError | null;
}

/** Not one of which only the lineage is left. */
export function isReplicated({ document }: VmReplica): boolean {
  return document.isGivenAway !== true;
}

export function summaryOf({ document, chain }: VmReplica): ReplicaVmSummary {
  const { vm, lineage, isPromotedHere } = document;
  return {
    vmId: vm.vmId,
    vm,
    head: chain.head()?.point ?? null,
    pointCount: chain.pointCount,
    promotion: isPromotedHere ? presentEntry(lineage) : null,
    error: chain.damage,
  };
}

export function summaryOfUnreadable(vmId: string, error: TidemarkError): ReplicaVmSummary {
  return { vmId, vm: null, head: null, pointCount: 0, promotion: null, error };
}
