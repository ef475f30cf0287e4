/** The part of the addon that reads captures, and keeps what targets hold. */
export interface NativeCaptureContent {
  /** Process-wide; `attachCapture(id)` finds it from another thread while it is open. */
  readonly id: number;
  readonly diskSizeBytes: number;
  readonly granularityBytes: number;
  readonly dirtyBytes: number;
  /** As dirtyExtents, over the capture. */
  extents(fromBytes: number, maxExtents: number, maxExtentBytes: number): Float64Array;
  /**
   * Reads the extents one after another into `into`, leaving `gapBytes` free
   * before each. Answers for each extent its CRC-32C and whether it is all zero.
   */
  read(
    extents: Float64Array,
    into: Uint8Array,
    gapBytes: number,
  ): Promise<{ crcs: Uint32Array; zeros: Uint8Array }>;
  /**
   * read() of what filterBy() leaves of the extents: [position in `into`, offset, length, ...],
   * and as read() for each of these. Before each of them `gapBytes` are free.
   */
  readChanged(
    extents: Float64Array,
    into: Uint8Array,
    gapBytes: number,
  ): Promise<{ runs: Float64Array; crcs: Uint32Array; zeros: Uint8Array }>;
  /** In all threads that attach from now on. */
  filterBy(known: NativeKnownContent): void;
  release(extents: Float64Array): void;
  brokenReason(): string | null;
  savedBytes(): number;
  /** Lets go of it without ending it: for threads that attached. */
  detach(): void;
  close(): Promise<void>;
}

/** What the blocks of a disk hash to at a recovery point, in a file. */
export interface NativeKnownContent {
  /** Null: no block is known. */
  readonly pointId: string | null;
  /** The capture that was filtered last is this point now. */
  settle(pointId: string): Promise<void>;
  /** What was read of it teaches nothing. */
  drop(): void;
  close(): Promise<void>;
}

export interface NativeKnownContentBinding {
  /** A file that is not of this disk's shape, or of another boot, knows nothing. */
  openKnownContent(
    path: string,
    diskId: string,
    sizeBytes: number,
    granularityBytes: number,
  ): Promise<NativeKnownContent>;
}
