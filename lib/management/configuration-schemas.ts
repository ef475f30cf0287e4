/** A host's configuration as a document: what was set, no keys and no state. */
import { z } from "zod";
import { problem, vmEnableRequest } from "./schemas.js";
import { monitoring } from "./statistics-schemas.js";
import { targetRequest } from "./target-schemas.js";
import { testFailoverSettings } from "./test-failover-schemas.js";
import { transferSettings } from "./transfer-schemas.js";

/** As it would be added. */
export const namedTarget = targetRequest.omit({ takesOver: true }).required({ targetName: true });

export const hostConfigurationDocument = z.strictObject({
  format: z.literal("tidemark-configuration"),
  version: z.literal(1),
  /** What is left out stays as it is. */
  host: z.strictObject({
    acceptsReplicas: z.boolean().optional(),
    monitoring: monitoring.optional(),
    testFailovers: testFailoverSettings.optional(),
    transfers: transferSettings.optional(),
  }),
  /** As they would be enabled; those that are not named stay as they are. */
  relationships: z
    .array(vmEnableRequest.extend({ targets: z.array(namedTarget).max(16).optional() }))
    .max(10_000),
});

export const configurationImportRequest = z.strictObject({
  configuration: hostConfigurationDocument,
  dryRun: z.boolean().default(false),
});

const settingChange = z.object({ setting: z.string(), from: z.unknown(), to: z.unknown() });

export const configurationImportReport = z.object({
  isDryRun: z.boolean(),
  host: z.array(settingChange),
  relationships: z.array(
    z.object({
      /** The VM's; "VM@TARGET" of a further target. */
      name: z.string(),
      action: z.enum(["enable", "change", "none"]),
      changes: z.array(settingChange),
      /** Why it was not done, or would not be. */
      error: problem.nullable(),
    }),
  ),
});

export type NamedTarget = z.infer<typeof namedTarget>;
export type HostConfigurationDocument = z.infer<typeof hostConfigurationDocument>;
export type ConfigurationImportReport = z.infer<typeof configurationImportReport>;
export type SettingChange = z.infer<typeof settingChange>;
