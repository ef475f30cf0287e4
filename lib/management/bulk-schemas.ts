/** What is done to many VMs with one order, and maintenance. */
import { z } from "zod";
import { problem, relationshipStatus } from "./schemas.js";
import { replicaUrl } from "./transfer-schemas.js";

const selectorFields = {
  /** Names, ids, or globs with * and ?; default: whatever their name. */
  names: z.array(z.string().min(1).max(255)).min(1).max(1000).optional(),
  replicaUrl: replicaUrl.optional(),
  state: relationshipStatus.shape.state.optional(),
  /** To be said when nothing else is. */
  all: z.literal(true).optional(),
};

const SAYS_SOMETHING = "name VMs, or say what they have in common, or all";

function saysSomething({ names, replicaUrl: url, state, all }: VmSelector): boolean {
  return [names, url, state, all].some((one) => one !== undefined);
}

const selectorShape = z.strictObject(selectorFields);

export type VmSelector = z.infer<typeof selectorShape>;

export const vmSelector = selectorShape.refine(saysSomething, SAYS_SOMETHING);

export const vmRemoveManyRequest = z
  .strictObject({
    ...selectorFields,
    /** At the replica too, first. */
    deleteReplica: z.boolean().default(false),
  })
  .refine(saysSomething, SAYS_SOMETHING);

/** One for each VM that was selected. */
export const vmOutcomes = z.array(
  z.object({ vmId: z.uuid(), name: z.string(), error: problem.nullable() }),
);

export const maintenanceRequest = z.strictObject({ isOn: z.boolean() });

export const maintenanceStatus = z.object({
  sinceMs: z.number().nullable(),
  /** Those that the end of maintenance resumes. */
  vms: z.array(z.object({ vmId: z.uuid(), name: z.string() })),
});

export type VmOutcomes = z.infer<typeof vmOutcomes>;
