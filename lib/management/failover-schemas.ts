/** Failovers, as they travel over the management API. */
import { z } from "zod";
import { SUCCESSION_CAUSES } from "../model/lineage.js";

export const shutDownRequest = z.strictObject({
  /** Cuts off a guest that has its disks open; else it is refused. */
  force: z.boolean().default(false),
});

export const cancelRequest = shutDownRequest.extend({
  /**
   * Of a planned failover on the primary: the replica, which does not answer, is not asked. If
   * it has taken over, the VM is on both hosts from then on.
   */
  withoutReplica: z.boolean().default(false),
});

/** Of a VM that runs on the host of its replica. */
export const promotion = z.object({
  cause: z.enum(SUCCESSION_CAUSES),
  generationNumber: z.number().int(),
  pointId: z.uuid().nullable(),
  /** On its way into plain disks; null: it may still be cancelled. */
  fold: z.object({ foldedBytes: z.number().int(), totalBytes: z.number().int() }).nullable(),
});
