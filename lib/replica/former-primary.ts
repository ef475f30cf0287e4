import type { Lineage } from "../model/lineage.js";
import type { Generation } from "../model/disk.js";
import type { DiskMarks } from "../model/disk-marks.js";

/** The disks of a VM that this host had, with nobody who writes to them any more. */
export interface ReleasedDisks {
  /** By which this host had the VM. */
  readonly generation: Generation;
  /** Raw files; by disk id. */
  readonly paths: ReadonlyMap<string, string>;
  /** They are as they were at the point from which the VM went on. */
  readonly isUnchanged: boolean;
  /** Where they may hold something else than the former head; null: not known. */
  readonly marks: readonly DiskMarks[] | null;
}

/** This host's own VMs, as far as it takes to become the replica of one that went on elsewhere. */
export interface FormerPrimary {
  /**
   * Lets go of the VM's disks. NOT_FOUND, CONFLICT, FENCED and UNSUPPORTED as
   * ReplicaEndpoint.takeReturned() says; may be repeated.
   */
  release(vmId: string, lineage: Lineage, formerHeadId?: string): Promise<ReleasedDisks>;
  /** CONFLICT: the VM is this host's own, which would become the replica of its replica. */
  requireNotOwn(vmId: string): void;
  /** They are the replica's, durably: what this host knows of the VM as its primary goes. */
  forget(vmId: string): Promise<void>;
}

export const NEVER_PRIMARY: FormerPrimary = {
  release: () => Promise.reject(new Error("this store has no primary beside it")),
  requireNotOwn: () => {},
  forget: () => Promise.resolve(),
};
