/** What `vm enable` would do. */
import { z } from "zod";
import { peerTestReport } from "./peer-schemas.js";
import { problem } from "./schemas.js";

const bytes = z.number().int().nonnegative();

export const enablePlan = z.object({
  name: z.string(),
  disks: z.array(
    z.object({
      /** Null: the first that is free of vda, vdb, ... */
      name: z.string().nullable(),
      path: z.string(),
      sizeBytes: bytes,
      /** Not known to be zero. */
      allocatedBytes: bytes,
    }),
  ),
  sizeBytes: bytes,
  /** What the replica takes at first. */
  allocatedBytes: bytes,
  /** By samples of the disks that were sent to the replica and not kept; null: not measured. */
  measured: z
    .object({ contentBytes: bytes, wireBytes: bytes, durationMs: z.number().positive() })
    .nullable(),
  estimatedSendBytes: bytes.nullable(),
  estimatedDurationMs: z.number().nonnegative().nullable(),
  peer: peerTestReport,
  /** Why it would be refused, or not get going; none: it would. */
  refusals: z.array(problem.omit({ retryable: true })),
});

export type EnablePlanBody = z.infer<typeof enablePlan>;
