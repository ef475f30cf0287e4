/** What can be done with a recovery point beside failing over to it. */
import { z } from "zod";
import { COPY_FORMATS } from "../model/point-copies.js";

const bytes = z.number().int().nonnegative();
const sequence = z.number().int().positive();

export const copyRequest = z.strictObject({
  /** Default: the newest. */
  pointId: z.uuid().optional(),
  format: z.enum(COPY_FORMATS),
  /** On the replica host, absolute; the copy becomes a directory in it. */
  directory: z.string().min(1).max(4096).startsWith("/"),
});

export const pointCopy = z.object({
  copyId: z.uuid(),
  vmId: z.uuid(),
  pointId: z.uuid(),
  pointSequence: sequence,
  format: z.enum(COPY_FORMATS),
  directory: z.string(),
  state: z.enum(["running", "done", "failed"]),
  copiedBytes: bytes,
  totalBytes: bytes,
  disks: z
    .array(z.object({ file: z.string(), diskId: z.uuid(), name: z.string(), sizeBytes: bytes }))
    .readonly(),
  failure: z.object({ code: z.string(), message: z.string() }).nullable(),
});

export const differenceRequest = z.strictObject({
  fromSequence: sequence,
  toSequence: sequence,
  /** Compares the bytes, too, where something was written. */
  withContent: z.boolean().default(false),
});

export const pointDifference = z.object({
  fromSequence: sequence,
  toSequence: sequence,
  changedBytes: bytes,
  differingBytes: bytes.nullable(),
  disks: z
    .array(
      z.object({
        diskId: z.uuid(),
        name: z.string(),
        fromSizeBytes: bytes,
        toSizeBytes: bytes,
        changedBytes: bytes,
        differingBytes: bytes.nullable(),
        /** [offset, length, ...] */
        extents: z.array(bytes).readonly(),
        isCutOff: z.boolean(),
      }),
    )
    .readonly(),
});

export type PointCopyBody = z.infer<typeof pointCopy>;
export type PointDifferenceBody = z.infer<typeof pointDifference>;
