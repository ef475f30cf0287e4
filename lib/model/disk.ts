/** A disk as both sides of a relationship know it. */
export interface DiskGeometry {
  /** UUID, canonical. */
  readonly diskId: string;
  /** For people, unique within the VM, e.g. "vda". */
  readonly name: string;
  readonly sizeBytes: number;
  /** Of the dirty bitmap; a power of two, at least 4096. */
  readonly granularityBytes: number;
}

/** A VM as the replica keeps it. */
export interface ReplicatedVm {
  readonly vmId: string;
  readonly name: string;
  /** The order is that of `diskIndex` in the deltas that name the same disks. */
  readonly disks: readonly DiskGeometry[];
  /** Disks that the VM has and that are not replicated: a recovery point has empty ones in their place. */
  readonly excludedDisks?: readonly DiskGeometry[] | undefined;
}

/** Names the lineage of a VM's replicated state; raised by every promotion. */
export interface Generation {
  readonly number: number;
  /** Random UUID: equal numbers with different ids are split brain. */
  readonly id: string;
}
