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

/** A VM as the replica keeps it. The order of `disks` is that of `diskIndex` in deltas. */
export interface ReplicatedVm {
  readonly vmId: string;
  readonly name: string;
  readonly disks: readonly DiskGeometry[];
}

/** Names the lineage of a VM's replicated state; raised by every promotion. */
export interface Generation {
  readonly number: number;
  /** Random UUID: equal numbers with different ids are split brain. */
  readonly id: string;
}
