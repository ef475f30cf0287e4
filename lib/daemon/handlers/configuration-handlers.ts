import type { CONFIGURATION_ROUTES } from "../../management/routes/configuration-routes.js";
import { exportConfiguration } from "../configuration/export-configuration.js";
import { importConfiguration } from "../configuration/import-configuration.js";
import type { HostParts } from "../host-parts.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function configurationHandlers(
  parts: HostParts,
): TopicHandlers<typeof CONFIGURATION_ROUTES> {
  return {
    configurationExport: () => exportConfiguration(parts),
    configurationImport: ({ configuration, dryRun }) =>
      importConfiguration(parts, configuration, dryRun),
  };
}
