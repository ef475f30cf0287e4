/** Verification of replicas, as zod schemas. */
import { z } from "zod";

const bytes = z.number().int().nonnegative();
const milliseconds = z.number().nonnegative();
const sequence = z.number().int().positive();

export const verificationRequest = z.strictObject({
  /** A recovery point's number; null: all of them. */
  pointSequence: sequence.nullable().default(null),
  /** Damaged small files are written again from what the service holds of them in memory. */
  isRepair: z.boolean().default(false),
});

export const damage = z.object({
  kind: z.enum(["document", "layer", "data", "base"]),
  file: z.string(),
  diskId: z.uuid().nullable(),
  diskName: z.string().nullable(),
  pointSequence: z.number().int(),
  /** [offset, length, ...] on the disk. */
  extents: z.array(bytes).readonly(),
  reason: z.string(),
});

export const verificationReport = z.object({
  startedAtMs: milliseconds,
  endedAtMs: milliseconds,
  pointSequence: sequence.nullable(),
  verifiedBytes: bytes,
  unknownBytes: bytes,
  result: z.enum(["good", "damaged"]),
  mendedFiles: z.array(z.string()).readonly(),
  damage: damage.array().readonly(),
});

export const verificationStatus = z.object({
  running: z
    .object({
      startedAtMs: milliseconds,
      pointSequence: sequence.nullable(),
      verifiedBytes: bytes,
      totalBytes: bytes,
      isPaused: z.boolean(),
    })
    .nullable(),
  last: verificationReport.nullable(),
  lastFailure: z.string().nullable(),
  damage: damage.array().readonly(),
  damagedPoints: z.array(z.number().int()).readonly(),
  isHeadDamaged: z.boolean(),
});

export const comparisonRequest = z.strictObject({
  /** What differs is marked, so that the next recovery point brings it. */
  isRepair: z.boolean().default(false),
});

export const comparisonReport = z.object({
  state: z.enum(["running", "done", "stopped"]),
  startedAtMs: milliseconds,
  endedAtMs: milliseconds.nullable(),
  isRepair: z.boolean(),
  comparedBytes: bytes,
  totalBytes: bytes,
  writtenBytes: bytes,
  differingBytes: bytes,
  firstPointId: z.uuid().nullable(),
  lastPointId: z.uuid().nullable(),
  disks: z
    .array(
      z.object({
        diskId: z.uuid(),
        name: z.string(),
        differingBytes: bytes,
        extents: z.array(bytes).readonly(),
      }),
    )
    .readonly(),
  waitsFor: z.string().nullable(),
});

export type ComparisonReportBody = z.infer<typeof comparisonReport>;
export type VerificationStatusBody = z.infer<typeof verificationStatus>;
