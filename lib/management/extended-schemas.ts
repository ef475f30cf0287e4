/** Extended replication, as it travels over the management API. */
import type { z } from "zod";
import { onwardRequest } from "./onward-schemas.js";
import * as transfers from "./transfer-schemas.js";

/** From the replica to a third host. */
export const extendRequest = onwardRequest.extend({
  intervalMs: transfers.intervalMs.default(300_000),
});

export type ExtendRequest = z.infer<typeof extendRequest>;
