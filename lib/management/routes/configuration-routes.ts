import * as configuration from "../configuration-schemas.js";
import { nothing, route } from "./route.js";

export const CONFIGURATION_ROUTES = {
  configurationExport: route(
    "GET",
    "/host/configuration",
    nothing,
    configuration.hostConfigurationDocument,
    "The settings of the host and of its relationships, without keys",
  ),
  configurationImport: route(
    "POST",
    "/host/configuration",
    configuration.configurationImportRequest,
    configuration.configurationImportReport,
    "Bring settings and relationships to what a configuration says",
  ),
} as const;
