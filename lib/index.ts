/**
 * Tidemark as a library: tracked disks, checkpoints across them, and their
 * deltas. Stable within a major version; everything else of the package is
 * internal, but for `tidemark/testing`.
 *
 * @packageDocumentation
 */
export { ERROR_CODES, type ErrorCode, TidemarkError } from "./model/errors.js";
export type { Cut } from "./model/delta.js";
export type { GroupCut } from "./model/group-cut.js";
export type {
  DiskFilter,
  FilterExport,
  Hypervisor,
  RunningVm,
  VmDisk,
  VmEvent,
} from "./model/hypervisor.js";
export {
  LibvirtHypervisor,
  type LibvirtHypervisorOptions,
} from "./hypervisor/libvirt/libvirt-hypervisor.js";
export { QemuHypervisor, type QemuHypervisorOptions } from "./hypervisor/qemu/qemu-hypervisor.js";
export { type ActivatedSocket, activatedSockets } from "./tracking/activated-sockets.js";
export { type AttachedDevice, type AttachOptions } from "./tracking/attach-disk.js";
export type { AttachmentKind } from "./tracking/attachment-record.js";
export {
  type Checkpoint,
  CheckpointDisk,
  type CheckpointOptions,
} from "./tracking/checkpoint.js";
export { Backup, BackupDisk, type BackupOptions } from "./tracking/backup.js";
export { ConsistencyGroup } from "./tracking/consistency-group.js";
export { DeltaDecoder, type DeltaRecord } from "./tracking/delta-decoder.js";
export type { DeltaStreamHeader } from "./tracking/delta-format.js";
export {
  type NbdExportOptions,
  NbdServer,
  type NbdServerOptions,
  type NbdServerStatistics,
  type NbdTlsOptions,
} from "./tracking/nbd-server.js";
export type { DiskState } from "./model/disk-state.js";
export {
  describeDiskState,
  exportDiskState,
  type ExportStateOptions,
  importDiskState,
  type ImportStateOptions,
  takeBackDiskState,
  type TakeBackStateOptions,
} from "./tracking/disk-state.js";
export type { OwnershipStatus, SharedStorageOptions } from "./tracking/owned-backing.js";
export type { DurabilityStatus } from "./tracking/durability.js";
export type { DiskBacking } from "./tracking/disk-backing.js";
export type { SegmentRecord } from "./tracking/segment-decoder.js";
export type { ImageLock } from "./tracking/binding.js";
export type { UpstreamStatus } from "./tracking/upstream-status.js";
export type { Durability } from "./model/durability.js";
export type { BitmapStatus, TargetStart, TargetStatus } from "./tracking/target-status.js";
export type { ResizeOptions, TrackedDiskOptions } from "./tracking/tracked-disk-options.js";
export { TrackedDisk } from "./tracking/tracked-disk.js";
