/** What a state file says: which disk, and everything that is known of its changes. */
export interface DiskState {
  /** Of this hand-over. */
  readonly id: string;
  /** Rises each time the disk changes hands. */
  readonly epoch: number;
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  readonly targetIds: readonly string[];
  /** Of those targets that are bitmaps of consumers outside Tidemark (docs/backups.md). */
  readonly bitmapNames: readonly string[];
}
