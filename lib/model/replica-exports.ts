import type { RecoveryPoint } from "./replica-endpoint.js";

/** One disk of a recovery point, served over NBD. */
export interface ExportedDisk {
  readonly diskId: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** NBD URI, e.g. "nbd+unix:///NAME?socket=PATH". */
  readonly uri: string;
  /** The disk is not replicated: this is an empty one of its size. */
  readonly isPlaceholder: boolean;
}

/**
 * A recovery point opened as disks: writable through a scratch layer, or read-only. The
 * point itself never changes.
 */
export interface PointExport {
  readonly exportId: string;
  readonly vmId: string;
  readonly point: RecoveryPoint;
  readonly kind: "test-failover" | "read-only";
  /** Those that the VM had at the point. */
  readonly disks: readonly ExportedDisk[];
  /** Those that it has now and did not have then. */
  readonly absentDisks: readonly { readonly diskId: string; readonly name: string }[];
}
