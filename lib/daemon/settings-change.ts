import type { z } from "zod";
import type { vmSettingsRequest } from "../management/transfer-schemas.js";
import type { SettingsChange } from "../model/relationship-settings.js";

/** A setting that is not there is null on its way, and undefined among the settings. */
export function settingsChange(request: z.infer<typeof vmSettingsRequest>): SettingsChange {
  const { proxyUrl, ...change } = request;
  return proxyUrl === undefined ? change : { ...change, proxyUrl: proxyUrl ?? undefined };
}
