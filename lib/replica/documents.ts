/** What the store's small files hold; docs/formats/replica-store.md says where each one is. */
import type { DeltaHeader, SegmentReceipt } from "../model/delta.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { PointExport } from "../model/replica-exports.js";
import type { DocumentFormat } from "./durable-document.js";

export interface VmDocument {
  readonly vm: ReplicatedVm;
  readonly generation: Generation;
  /** Every generation that this replica has known, oldest first; the last is the present one. */
  readonly generationHistory: readonly Generation[];
}

export interface DeltaDocument {
  /** Ours, new each time a delta is opened from scratch; names its directory and layers. */
  readonly openingId: string;
  readonly header: DeltaHeader;
  /** Counts the deltas and sessions of the VM: the highest is the one that is open. */
  readonly order: number;
}

/** A segment whose blocks are durable in the delta's layer file of its disk. */
export interface SegmentDocument {
  readonly deltaId: string;
  readonly diskIndex: number;
  readonly receipt: Omit<SegmentReceipt, "wireBytes">;
  /** Of the uncompressed records. */
  readonly recordBytes: number;
  readonly regionOffsetBytes: number;
  readonly capacityBytes: number;
  /** The segment's part of the layer's index, base64. */
  readonly index: string;
}

export interface SessionDocument {
  readonly vmId: string;
  readonly sessionId: string;
  /** The session is void once the head is another. */
  readonly parentPointId: string | null;
  readonly generation: Generation;
  readonly order: number;
}

/** A sealed layer in the layers directory. */
export interface StoredLayer {
  readonly fileName: string;
  readonly fileBytes: number;
  readonly checksum: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
}

/** The layers that a delta adds to one disk, oldest first. */
export interface LayeredDisk {
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  readonly layers: readonly StoredLayer[];
}

/** A committed delta of a staging session. */
export interface StagedDeltaDocument {
  readonly vmId: string;
  readonly sessionId: string;
  readonly deltaId: string;
  readonly digest: string;
  readonly disks: readonly LayeredDisk[];
}

/** A recovery point exists if and only if its manifest is there, whole. */
export interface PointManifest {
  readonly vmId: string;
  readonly point: RecoveryPoint;
  /** The session whose layers this point took in, below its own. */
  readonly stagingSessionId: string | null;
  /** The latest empty delta that found nothing to add; it answers a repeated commit. */
  readonly extendedBy: { readonly deltaId: string; readonly digest: string } | null;
  readonly disks: readonly LayeredDisk[];
}

/** Which point the base files hold. */
export interface BaseDocument {
  readonly vmId: string;
  /** Null and 0: the base is empty. */
  readonly pointId: string | null;
  readonly sequence: number;
  /** The layers up to this point are on their way into the base; older points are given up. */
  readonly mergingSequence: number | null;
}

export interface ExportDocument {
  readonly exportId: string;
  readonly vmId: string;
  readonly pointId: string;
  readonly kind: PointExport["kind"];
}

export const VM_DOCUMENT: DocumentFormat<VmDocument> = { name: "tidemark-vm", version: 1 };
export const DELTA_DOCUMENT: DocumentFormat<DeltaDocument> = { name: "tidemark-delta", version: 1 };
export const SEGMENT_DOCUMENT: DocumentFormat<SegmentDocument> = {
  name: "tidemark-segment",
  version: 1,
};
export const SESSION_DOCUMENT: DocumentFormat<SessionDocument> = {
  name: "tidemark-staging-session",
  version: 1,
};
export const STAGED_DELTA_DOCUMENT: DocumentFormat<StagedDeltaDocument> = {
  name: "tidemark-staged-delta",
  version: 1,
};
export const POINT_MANIFEST: DocumentFormat<PointManifest> = {
  name: "tidemark-recovery-point",
  version: 1,
};
export const BASE_DOCUMENT: DocumentFormat<BaseDocument> = { name: "tidemark-base", version: 1 };
export const EXPORT_DOCUMENT: DocumentFormat<ExportDocument> = {
  name: "tidemark-export",
  version: 1,
};
