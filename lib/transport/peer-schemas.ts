/** What peers send each other, checked field by field at the edge. */
import { z } from "zod";
import {
  type BlockHashRequest,
  HASH_BYTES,
  MAX_HASH_COUNT,
  MAX_HASH_EXTENTS,
  MAX_HASHED_BYTES,
} from "../model/block-hashes.js";
import type { DeltaHeader, SegmentReceipt } from "../model/delta.js";
import type { DiskGeometry, Generation, ReplicatedVm } from "../model/disk.js";
import { type DiskMarks, MAX_MARKED_EXTENTS } from "../model/disk-marks.js";
import type { GroupCut, GroupPoint } from "../model/group-cut.js";
import {
  type Lineage,
  type LineageEntry,
  SUCCESSION_CAUSES,
  type Succession,
} from "../model/lineage.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaVmStatus,
  ReturnedDisks,
} from "../model/replica-endpoint.js";
import type { SegmentRequest } from "../model/segment-receiver.js";
import { DELTA_FORMAT_VERSION } from "../model/delta.js";
import { FIRST_SEGMENT_DIGEST, SEGMENT_DIGESTS } from "../model/segment-digest.js";
import { parseUuid } from "../model/uuid.js";
import { errorBodySchema } from "./error-body.js";
import { MAX_CONTENT_BYTES } from "./limits.js";

const MAX_DISKS = 256;
const MAX_SEGMENTS = 1 << 22;
const MAX_POINTS = 1 << 16;
const MAX_GROUP_VMS = 256;
const MAX_GENERATIONS = 1 << 16;

/** Canonical, so that it can be compared and can name a file. */
export const uuid = z.string().transform((text, context) => {
  try {
    return parseUuid(text, "an id");
  } catch (thrown) {
    context.addIssue({ code: "custom", message: (thrown as Error).message });
    return z.NEVER;
  }
});

const count = z.number().int().nonnegative();
const ordinal = z.number().int().positive();
/** Epoch milliseconds; fractions are no fault. */
const timeMs = z.number().nonnegative().max(Number.MAX_SAFE_INTEGER);
const name = z.string().min(1).max(255);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "not a SHA-256 in hex");
const consistency = z.enum(["crash", "application"]);

const granularityBytes = z
  .number()
  .int()
  .min(4096)
  .max(1 << 30)
  .refine((value) => Number.isInteger(Math.log2(value)), "not a power of two");

const diskGeometry: z.ZodType<DiskGeometry> = z.object({
  diskId: uuid,
  name,
  sizeBytes: ordinal,
  granularityBytes,
});

const disks = z.array(diskGeometry).min(1).max(MAX_DISKS);
const excludedDisks = z.array(diskGeometry).max(MAX_DISKS).optional();

export const generation: z.ZodType<Generation> = z.object({ number: count, id: uuid });

export const replicatedVm: z.ZodType<ReplicatedVm> = z.object({
  vmId: uuid,
  name,
  disks,
  excludedDisks,
});

const groupFields = {
  groupId: uuid,
  name,
  cutNumber: ordinal,
  memberVmIds: z.array(uuid).min(1).max(MAX_GROUP_VMS),
  takenVmIds: z.array(uuid).min(1).max(MAX_GROUP_VMS),
};

const groupCut: z.ZodType<GroupCut> = z.object(groupFields);

const groupPoint: z.ZodType<GroupPoint> = z.object({
  ...groupFields,
  validUntilCutNumber: ordinal,
});

const cut = z.object({
  sequence: ordinal,
  takenAtMs: timeMs,
  pauseNs: count,
  requestsInFlight: count,
  consistency,
  group: groupCut.optional(),
});

export const deltaHeader: z.ZodType<DeltaHeader> = z.object({
  formatVersion: z.literal(DELTA_FORMAT_VERSION),
  deltaId: uuid,
  attempt: ordinal,
  kind: z.enum(["point", "staging"]),
  vmId: uuid,
  generation,
  parentPointId: uuid.nullable(),
  stagingSessionId: uuid.nullable(),
  cut,
  disks,
  excludedDisks,
  segmentCount: count.max(MAX_SEGMENTS),
});

export const commitRequest: z.ZodType<CommitRequest> = z.object({
  vmId: uuid,
  deltaId: uuid,
  attempt: ordinal,
  generation,
  digest: sha256,
  header: deltaHeader.optional(),
});

export const segmentReceipt: z.ZodType<SegmentReceipt> = z.object({
  segmentIndex: count,
  sha256,
  dataBytes: count,
  zeroBytes: count,
  wireBytes: count,
});

export const segmentReceipts = z.array(segmentReceipt).max(MAX_SEGMENTS);

export const recoveryPoint: z.ZodType<RecoveryPoint> = z.object({
  pointId: uuid,
  sequence: ordinal,
  parentPointId: uuid.nullable(),
  generation,
  takenAtMs: timeMs,
  validUntilMs: timeMs,
  cutSequence: ordinal,
  consistency,
  digest: sha256,
  changedBytes: count,
  group: groupPoint.optional(),
});

export const recoveryPoints = z.array(recoveryPoint).max(MAX_POINTS);

const extentList = z
  .array(count)
  .max(2 * MAX_HASH_EXTENTS)
  .refine((list) => list.length % 2 === 0, "not pairs of offset and length");

const lineageEntry: z.ZodType<LineageEntry> = z.object({
  generation,
  parentId: uuid.nullable(),
  forkPointId: uuid.nullable(),
  holderId: uuid,
  cause: z.enum(SUCCESSION_CAUSES),
});

export const succession: z.ZodType<Succession> = z.object({
  vmId: uuid,
  from: generation,
  to: lineageEntry,
});

export const replicaVmStatus: z.ZodType<ReplicaVmStatus> = z.object({
  vm: replicatedVm,
  generation,
  lineage: z.array(lineageEntry).min(1).max(MAX_GENERATIONS).optional(),
  head: recoveryPoint.nullable(),
  pointCount: count,
  stagingSessionId: uuid.nullable(),
  storedBytes: count,
  headDamage: z
    .array(z.object({ diskId: uuid, extents: extentList }))
    .max(MAX_DISKS)
    .optional(),
});

const lineage: z.ZodType<Lineage> = z.array(lineageEntry).min(1).max(MAX_GENERATIONS);

export const returnRequest = z.object({
  vmId: uuid,
  vm: replicatedVm,
  lineage,
  formerHeadId: uuid.optional(),
});

const markedExtents = z
  .array(count)
  .max(2 * MAX_MARKED_EXTENTS)
  .refine((list) => list.length % 2 === 0, "not pairs of offset and length");

const diskMarks: z.ZodType<DiskMarks> = z.object({
  diskId: uuid,
  changed: markedExtents,
  suspect: markedExtents,
});

export const returnedDisks: z.ZodType<ReturnedDisks> = z.object({
  status: replicaVmStatus,
  isUnchanged: z.boolean(),
  marks: z.array(diskMarks).max(MAX_DISKS).optional(),
});

/** What it adds up to is checked where it is answered. */
export const blockHashRequest: z.ZodType<BlockHashRequest> = z.object({
  vmId: uuid,
  generation,
  pointId: uuid,
  diskIndex: count.max(MAX_DISKS - 1),
  diskId: uuid.optional(),
  blockBytes: ordinal.min(512).max(MAX_HASHED_BYTES),
  extents: extentList,
});

const MAX_HASH_TEXT = Math.ceil((MAX_HASH_COUNT * HASH_BYTES) / 3) * 4;

/** In base64. */
export const blockHashes = z
  .string()
  .max(MAX_HASH_TEXT)
  .regex(/^[A-Za-z0-9+/]*={0,2}$/, "not base64");

/** From a path and a header, so numbers arrive as text. */
const decimal = z
  .string()
  .regex(/^[0-9]{1,15}$/, "not a decimal number")
  .transform(Number);

export const segmentRequest: z.ZodType<SegmentRequest> = z.object({
  vmId: uuid,
  deltaId: uuid,
  attempt: decimal.pipe(ordinal),
  segmentIndex: decimal.pipe(count.max(MAX_SEGMENTS - 1)),
  contentBytes: decimal.pipe(ordinal.max(MAX_CONTENT_BYTES)),
  digest: z.enum(SEGMENT_DIGESTS).optional(),
});

export const hello = z.object({
  product: z.literal("tidemark"),
  protocolVersions: z.array(ordinal).min(1).max(100),
  deltaFormatVersions: z.array(ordinal).min(1).max(100),
  /** Not of every version. */
  host: z
    .object({
      hostName: name,
      softwareVersion: z.string().max(64),
      acceptsReplicas: z.boolean(),
      freeBytes: count.nullable(),
      /** Why the asking peer may not replicate here; null when it may. */
      refusal: errorBodySchema.nullable(),
    })
    .optional(),
  /** Of segments; the version before knew zstd alone and did not say so. */
  contentCodings: z.array(z.string().max(40)).max(20).default(["zstd"]),
  /** Likewise. */
  segmentDigests: z.array(z.string().max(40)).max(20).default([FIRST_SEGMENT_DIGEST]),
  /** Whether a commit may announce what it commits; the version before knew nothing of that. */
  commitsUnannounced: z.boolean().default(false),
});

export type Hello = z.output<typeof hello>;
