/** The addon's part for layer files; binding.ts says what holds for all of it. */
/** One segment's part of a layer file. Synchronous: for worker threads. */
export interface NativeLayerSegmentWriter {
  append(diskOffsetBytes: number, data: Uint8Array): void;
  zero(diskOffsetBytes: number, lengthBytes: number): void;
  /** Durable; answers the segment's index blob. Closes it. */
  finish(): Promise<Buffer>;
  close(): Promise<void>;
}

export interface NativeLayerIdentity {
  readonly diskId: string;
  readonly lineage: string;
  readonly sequence: number;
  readonly diskSizeBytes: number;
  readonly granularityBytes: number;
}

export interface NativeLayerSummary {
  readonly extentCount: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
  readonly checksum: number;
}

/** A sealed layer's index and checksums. */
export interface NativeLayer {
  readonly granularityBytes: number;
  /** Of its index, granule checksums and identity; the point's manifest has it too. */
  readonly checksum: number;
  /** [offset, length, 1 if it is zero, ...]: at most `maxExtents` that reach past `fromBytes`. */
  extents(fromBytes: number, maxExtents: number): Float64Array;
  /** CRC-32C of each granule of a range that lies in one extent with data. */
  checksums(offsetBytes: number, lengthBytes: number): Uint32Array;
  /** Reads data again from the storage, about `limitBytes`; the disk's size is the end. */
  scan(fromBytes: number, limitBytes: number): Promise<NativeLayerScan>;
  close(): Promise<void>;
}

export interface NativeLayerScan {
  readonly nextBytes: number;
  readonly readBytes: number;
  /** [offset, length, ...] on the disk of what differs from its checksum. */
  readonly damaged: Float64Array;
}

/** Several layers on their way into one file. */
export interface NativeLayerMerge {
  /** Copies about that much; answers whether there is more. */
  step(maxBytes: number): Promise<boolean>;
  /** Durable when it resolves. */
  finish(): Promise<NativeLayerSummary>;
  close(): Promise<void>;
}

export interface NativeScratchBudget {
  /** How often a write was refused. */
  refusedCount(): number;
}

/**
 * A served recovery point on its way into its base, while it is in use. From its beginning
 * the guest writes to the base, and there is no going back.
 */
export interface NativeFold {
  /** Copies about that much, durably; answers whether there is more. Not during another. */
  step(maxBytes: number): Promise<boolean>;
  /** What is left. When it resolves, the base alone is the disk, a plain file of its size. */
  finish(): Promise<void>;
  /** Where on the disk the last step ended. */
  readonly positionBytes: number;
  /** The device goes on as it is; another fold() of it goes on from there. */
  close(): Promise<void>;
}

export interface NativeLayerBinding {
  crc32c(data: Uint8Array, seed: number): number;
  layerSegmentWriter(
    path: string,
    regionOffsetBytes: number,
    capacityBytes: number,
    granularityBytes: number,
  ): NativeLayerSegmentWriter;
  sealLayer(
    path: string,
    identity: NativeLayerIdentity,
    indexBlobs: Uint8Array[],
  ): Promise<NativeLayerSummary>;
  /** Opens, checks against `diskId`, re-reads every granule when `deep`. */
  verifyLayer(path: string, diskId: string, deep: boolean): Promise<NativeLayerSummary>;
  /**
   * Into a new layer that holds what all of them hold together; `layerPaths` oldest first.
   * A block that differs from its checksum ends it: CORRUPT names the layer.
   */
  mergeIntoLayer(
    path: string,
    identity: NativeLayerIdentity,
    layerPaths: string[],
  ): Promise<NativeLayerMerge>;
  /** As it is, into a raw file that is there, up to the disk's size. May be repeated. */
  mergeIntoBase(
    path: string,
    diskId: string,
    diskSizeBytes: number,
    layerPaths: string[],
  ): Promise<NativeLayerMerge>;
  openLayer(path: string, diskId: string): Promise<NativeLayer>;
  /** CRC-32C of each `blockBytes`, read from the storage; past the file's end as zeroes. */
  checksumFile(
    path: string,
    offsetBytes: number,
    lengthBytes: number,
    blockBytes: number,
  ): Promise<Uint32Array>;
}
