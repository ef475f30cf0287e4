/** Extended replication, as it travels over the management API. */
import { z } from "zod";
import { vmEnableRequest } from "./schemas.js";
import * as transfers from "./transfer-schemas.js";

/** From the replica to a third host; when the VM's applications rest is its primary's to say. */
export const extendRequest = vmEnableRequest
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
    intervalMs: transfers.intervalMs.default(300_000),
    /** The third host keeps a replica of the VM already: this host becomes its primary. */
    takesOver: z.boolean().default(false),
  });

export type ExtendRequest = z.infer<typeof extendRequest>;
