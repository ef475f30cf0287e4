/** A VM's further targets, as they travel over the management API. */
import { z } from "zod";
import { plainName, vmEnableRequest } from "./schemas.js";

/** Cuts with other VMs, and when the VM's applications rest, are its first target's. */
export const targetRequest = vmEnableRequest
  .omit({
    name: true,
    disks: true,
    group: true,
    firstCopy: true,
    applicationConsistentEveryMs: true,
    freezeScript: true,
    thawScript: true,
    frozenLimitMs: true,
  })
  .extend({
    /** Default: the host's. */
    targetName: plainName.optional(),
    /**
     * The host keeps a replica of the VM by another primary: this host becomes its primary, and
     * only what differs travels.
     */
    takesOver: z.boolean().default(false),
  });

export type TargetRequest = z.infer<typeof targetRequest>;
