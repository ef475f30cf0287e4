import type { RecoveryPoint } from "./replica-endpoint.js";

/** One disk of a recovery point, served over NBD. */
export interface ExportedDisk {
  readonly diskId: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** NBD URI, e.g. "nbd+unix:///NAME?socket=PATH". */
  readonly uri: string;
}

/** A recovery point opened as disks: writable through a scratch layer, the point itself never changes. */
export interface PointExport {
  readonly exportId: string;
  readonly vmId: string;
  readonly point: RecoveryPoint;
  readonly kind: "test-failover" | "failover";
  readonly disks: readonly ExportedDisk[];
}
