import { type Backup, type BackupOptions, beginBackup } from "./backup.js";
import { type Checkpoint, type CheckpointOptions, takeCheckpoint } from "./checkpoint.js";
import type { TrackedDisk } from "./tracked-disk.js";

/** Disks that are cut together: no checkpoint of the group holds a write without those it followed. */
export class ConsistencyGroup {
  readonly disks: readonly TrackedDisk[];

  constructor(disks: readonly TrackedDisk[]) {
    this.disks = disks;
  }

  /** Every disk must have the target. TIMED_OUT (retryable): writes under way took too long. */
  async checkpoint(target: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
    return takeCheckpoint(this.disks, target, options);
  }

  /** Every disk must have the bitmap. */
  async beginBackup(bitmap: string, options: BackupOptions = {}): Promise<Backup> {
    return beginBackup(this.disks, bitmap, options);
  }
}
