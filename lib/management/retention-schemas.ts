/** Which recovery points are kept, and the room for them, as the API and host.json say it. */
import { z } from "zod";
import { recoveryPoint } from "./schemas.js";

const bytes = z.number().int().nonnegative();
const milliseconds = z.number().int().nonnegative();

/** From fine to coarse: points up to that age, one in each slot; 0: all of them. */
export const retentionTiers = z
  .array(z.strictObject({ withinMs: milliseconds.min(1000), everyMs: milliseconds }))
  .min(1)
  .max(16)
  .refine(
    (tiers) =>
      tiers.every(({ withinMs, everyMs }, i) => {
        const finer = tiers[i - 1];
        return finer === undefined || (finer.withinMs < withinMs && finer.everyMs < everyMs);
      }),
    "each tier must reach further back than the one before, and be coarser",
  );

const maxPoints = z.number().int().min(1).max(100_000);

export const retentionPolicy = z.strictObject({ tiers: retentionTiers, maxPoints });

export const quotaBytes = bytes.min(1).nullable();

/** What is missing is as the host's settings say. */
export const retentionRequest = z.strictObject({
  tiers: retentionTiers.optional(),
  maxPoints: maxPoints.optional(),
  /** Null: none, whatever the host's is. */
  quotaBytes: quotaBytes.optional(),
});

export const retentionStatus = z.object({
  /** What holds for the VM. */
  tiers: z.array(z.object({ withinMs: z.number(), everyMs: z.number() })).readonly(),
  maxPoints: z.number().int(),
  quotaBytes: bytes.nullable(),
  /** What is the VM's own of that. */
  own: retentionRequest,
  pointCount: z.number().int(),
  storedBytes: bytes,
  warnings: z.array(z.string()),
});

export const keptPoint = recoveryPoint.extend({
  label: z.string().nullable(),
  isPinned: z.boolean(),
  isOpen: z.boolean(),
  /** In layers of its own; what is in the base is not counted. */
  storedBytes: bytes,
});

export const pointEditRequest = z.strictObject({
  /** Null: none. */
  label: z
    .string()
    .min(1)
    .max(255)
    .regex(/^\P{Cc}*$/u)
    .nullable()
    .optional(),
  isPinned: z.boolean().optional(),
});

export type RetentionRequest = z.infer<typeof retentionRequest>;
export type RetentionStatus = z.infer<typeof retentionStatus>;
export type KeptPointBody = z.infer<typeof keptPoint>;
