import { join } from "node:path";

/** The only epoch of a store that no cluster shares; a cluster's owner has one each. */
const EPOCH = 1;

const digits = (value: number, width: number) => value.toString().padStart(width, "0");

/** Where the VMs are, below the store's root. */
export const vmsDirectory = (root: string) => join(root, "vms");
export const lockFile = (root: string) => join(root, "lock.db");

/**
 * The names of one VM's files (docs/formats/replica-store.md). Every part is a
 * canonical UUID or a number of ours; no text of a peer becomes a name.
 */
export class VmPaths {
  readonly directory: string;
  readonly vmFile: string;
  readonly baseFile: string;
  readonly returnedFile: string;
  readonly verificationFile: string;
  readonly retentionFile: string;
  /** Of the replication from here to another host. */
  readonly extendedDirectory: string;
  readonly disksDirectory: string;
  readonly stagingDirectory: string;
  readonly layersDirectory: string;
  readonly pointsDirectory: string;

  constructor(root: string, vmId: string) {
    this.directory = join(vmsDirectory(root), vmId);
    this.vmFile = join(this.directory, "vm.json");
    this.baseFile = join(this.directory, "base.json");
    this.returnedFile = join(this.directory, "returned.json");
    this.verificationFile = join(this.directory, "verification.json");
    this.retentionFile = join(this.directory, "retention.json");
    this.extendedDirectory = join(this.directory, "extended");
    this.disksDirectory = join(this.directory, "disks");
    const epoch = join(this.directory, "epochs", digits(EPOCH, 10));
    this.stagingDirectory = join(epoch, "staging");
    this.layersDirectory = join(epoch, "layers");
    this.pointsDirectory = join(epoch, "points");
  }

  extendedBitmap = (diskId: string) => join(this.extendedDirectory, `${diskId}.tidemark`);
  diskDirectory = (diskId: string) => join(this.disksDirectory, diskId);
  diskBase = (diskId: string) => join(this.diskDirectory(diskId), "base.raw");
  diskChecksums = (diskId: string) => join(this.diskDirectory(diskId), "base.checksums");
  deltaDirectory = (openingId: string) => join(this.stagingDirectory, `delta-${openingId}`);
  sessionDirectory = (sessionId: string) => join(this.stagingDirectory, `session-${sessionId}`);
  layer = (fileName: string) => join(this.layersDirectory, fileName);
  point = (sequence: number) => join(this.pointsDirectory, pointFileName(sequence));
}

export const pointFileName = (sequence: number) => `${digits(sequence, 12)}.json`;

/** The sequence that a point's file name states; null for any other name. */
export function sequenceOf(fileName: string): number | null {
  return /^[0-9]{12}\.json$/.test(fileName) ? Number(fileName.slice(0, 12)) : null;
}

export const DELTA_HEADER = "header.json";
export const SESSION_HEADER = "session.json";
export const EXPORT_HEADER = "export.json";
export const stagedLayer = (directory: string, diskIndex: number) =>
  join(directory, `disk-${diskIndex}.layer`);
export const stagedDeltaFileName = (order: number) => `delta-${digits(order, 6)}.json`;

/** A retried segment is another arrival: what counts is the latest one that is complete. */
export const segmentFileName = (segmentIndex: number, arrival: number) =>
  `segment-${digits(segmentIndex, 8)}-${digits(arrival, 8)}.json`;

/** The opening's id is ours and used once, so no file of an earlier try can pass for the layer. */
export const layerFileName = (openingId: string, diskIndex: number) =>
  `${openingId}-${diskIndex}.layer`;
