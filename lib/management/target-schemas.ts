/** A VM's further targets, as they travel over the management API. */
import type { z } from "zod";
import { onwardRequest } from "./onward-schemas.js";
import { plainName } from "./schemas.js";

export const targetRequest = onwardRequest.extend({
  /** Default: the host's. */
  targetName: plainName.optional(),
});

export type TargetRequest = z.infer<typeof targetRequest>;
