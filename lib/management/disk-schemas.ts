/** What travels over the management API about a VM's disks that come, go, or are left out. */
import { z } from "zod";

export const diskRemoveRequest = z.strictObject({
  /** Although clients are connected: they are cut off. */
  force: z.boolean().default(false),
});

export const diskExclusionRequest = z.strictObject({
  /** True: the disk is served, and not replicated. */
  isExcluded: z.boolean(),
});
