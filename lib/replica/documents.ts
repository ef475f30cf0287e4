/** What the store's small files hold; docs/formats/replica-store.md says where each one is. */
import type { DeltaHeader, SegmentReceipt } from "../model/delta.js";
import type { DiskGeometry, Generation, ReplicatedVm } from "../model/disk.js";
import type { DiskMarks } from "../model/disk-marks.js";
import { firstEntry, type Lineage } from "../model/lineage.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { PointExport } from "../model/replica-exports.js";
import type { Damage, VerificationReport } from "../model/verification.js";
import type { DocumentFormat } from "./durable-document.js";
import type { RetentionTier } from "./retention-policy.js";

export interface VmDocument {
  readonly vm: ReplicatedVm;
  /** The present one of the lineage. */
  readonly generation: Generation;
  readonly lineage: Lineage;
  /** This host runs the VM, or may: the present generation's holder is this replica. */
  readonly isPromotedHere: boolean;
  /**
   * The VM went on from here for good and is the store's no more; its lineage stays, for a
   * primary that returns.
   */
  readonly isGivenAway?: true | undefined;
}

/** What version 1 had in the lineage's place. */
interface VmDocumentV1 {
  readonly generationHistory?: readonly Generation[];
}

/** What was known of disks that became this replica's base: it holds for their own point, the first. */
export interface ReturnedDocument {
  readonly vmId: string;
  /** What the disks may be others than. */
  readonly formerHeadId: string;
  readonly marks: readonly DiskMarks[];
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
  /** Of the disk when the layer was made; missing in what version 1 staged: the manifest's. */
  readonly diskSizeBytes?: number;
}

/** The layers that a delta adds to one disk, oldest first. */
export interface LayeredDisk {
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  /** As the disk was called then; not in manifests of the version before. */
  readonly name?: string | undefined;
  /** The disk came with this point: what older points or the base hold of it is not below it. */
  readonly begins?: true | undefined;
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
  /** Disks that the VM had then and that were not replicated. */
  readonly excludedDisks?: readonly DiskGeometry[] | undefined;
  /** Where the layers begin when they include those of points before it that were given up. */
  readonly since: PointPlace | null;
  readonly label: string | null;
  /** By an administrator: retention leaves the point alone. */
  readonly isPinned: boolean;
  /** By the replica's clock, when it was committed; null: version 1 did not note it. */
  readonly receivedAtMs: number | null;
  /** What retention reckons with: see chain-clock.ts. */
  readonly chainTimeMs: number;
}

/** A point's place in the chain. */
export interface PointPlace {
  readonly sequence: number;
  readonly parentPointId: string | null;
}

/** Which point the base files hold, and which is the first that is kept. */
export interface BaseDocument {
  readonly vmId: string;
  /** Null and 0: the base is empty. */
  readonly pointId: string | null;
  readonly sequence: number;
  /** Points before it are given up; the layers up to it go into the base. */
  readonly mergingSequence: number | null;
}

/** Where an administrator wants it otherwise than the host's settings say. */
export interface RetentionOverrides {
  readonly tiers?: readonly RetentionTier[] | undefined;
  readonly maxPoints?: number | undefined;
  /** Null: none, whatever the host's is. */
  readonly quotaBytes?: number | null | undefined;
}

/** To which recovery point the bitmaps of an extended replication are marked. */
export interface ExtendedDocument {
  readonly vmId: string;
  /** The replica's own at that time: after another one the VM may have run here. */
  readonly generationId: string;
  readonly pointId: string;
}

export interface RetentionDocument extends RetentionOverrides {
  readonly vmId: string;
}

export interface ExportDocument {
  readonly exportId: string;
  readonly vmId: string;
  readonly pointId: string;
  readonly kind: PointExport["kind"];
  /** By the wall clock; missing in what former versions wrote. */
  readonly openedAtMs: number;
}

export interface VerificationDocument {
  readonly vmId: string;
  readonly last: VerificationReport | null;
  /** As far as nothing newer lies over it; in the order in which it was found. */
  readonly damage: readonly Damage[];
}

export const VERIFICATION_DOCUMENT: DocumentFormat<VerificationDocument> = {
  name: "tidemark-verification",
  version: 1,
};
export const VM_DOCUMENT: DocumentFormat<VmDocument> = {
  name: "tidemark-vm",
  version: 2,
  upgrade: ({ vm, generation, generationHistory = [generation] }: VmDocument & VmDocumentV1) => ({
    vm,
    generation,
    lineage: generationHistory.map(firstEntry),
    isPromotedHere: false,
  }),
};
export const RETURNED_DOCUMENT: DocumentFormat<ReturnedDocument> = {
  name: "tidemark-returned-disks",
  version: 1,
};
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
  version: 2,
  upgrade: (manifest) => ({
    ...manifest,
    since: null,
    label: null,
    isPinned: false,
    receivedAtMs: null,
    chainTimeMs: manifest.point.takenAtMs,
  }),
};
export const BASE_DOCUMENT: DocumentFormat<BaseDocument> = { name: "tidemark-base", version: 1 };
export const EXTENDED_DOCUMENT: DocumentFormat<ExtendedDocument> = {
  name: "tidemark-extended",
  version: 1,
};
export const RETENTION_DOCUMENT: DocumentFormat<RetentionDocument> = {
  name: "tidemark-retention",
  version: 1,
};
/** Version 1 could be of a running VM as well, whose writes are never dropped. */
export const EXPORT_DOCUMENT: DocumentFormat<ExportDocument> = {
  name: "tidemark-export",
  version: 2,
};
