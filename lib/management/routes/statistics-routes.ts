import * as statistics from "../statistics-schemas.js";
import { nothing, route } from "./route.js";

export const STATISTICS_ROUTES = {
  vmStatistics: route(
    "GET",
    "/vms/:vm/statistics",
    nothing,
    statistics.vmStatistics,
    "What its replication did in this monitoring interval and the one before",
  ),
  vmStatisticsReset: route(
    "POST",
    "/vms/:vm/statistics/reset",
    nothing,
    statistics.vmStatistics,
    "Count anew from now on; the history stays",
  ),
  vmHistory: route(
    "GET",
    "/vms/:vm/statistics/history",
    statistics.historyRequest,
    statistics.historyBucket.array(),
    "What its replication did over time, for charts",
  ),
  monitoringSet: route(
    "POST",
    "/host/monitoring",
    statistics.monitoringRequest,
    statistics.monitoring,
    "Set how long a monitoring interval is, and when one begins",
  ),
} as const;
