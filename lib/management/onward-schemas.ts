/** What the replications of a VM have in common that are not its first one from its primary. */
import { z } from "zod";
import { vmEnableRequest } from "./schemas.js";

/** Cuts with other VMs, and when the VM's applications rest, are the first one's to say. */
export const onwardRequest = vmEnableRequest
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
    /**
     * The host keeps a replica of the VM by another primary: this host becomes its primary, and
     * only what differs travels.
     */
    takesOver: z.boolean().default(false),
  });

export type OnwardRequest = z.infer<typeof onwardRequest>;
