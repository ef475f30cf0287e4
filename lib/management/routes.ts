/**
 * The management API: the one table of its routes, by topic in routes/. The
 * server registers them, the client and with it the CLI are typed from them.
 */
import type { z } from "zod";
import { BITMAP_ROUTES } from "./routes/bitmap-routes.js";
import { BULK_ROUTES } from "./routes/bulk-routes.js";
import { COPY_ROUTES } from "./routes/copy-routes.js";
import { CONFIGURATION_ROUTES } from "./routes/configuration-routes.js";
import { DISK_ROUTES } from "./routes/disk-routes.js";
import { EXTENDED_ROUTES } from "./routes/extended-routes.js";
import { TARGET_ROUTES } from "./routes/target-routes.js";
import { FAILOVER_ROUTES } from "./routes/failover-routes.js";
import { FIRST_COPY_ROUTES } from "./routes/first-copy-routes.js";
import { GROUP_FAILOVER_ROUTES } from "./routes/group-failover-routes.js";
import { GROUP_ROUTES } from "./routes/group-routes.js";
import { HOST_ROUTES } from "./routes/host-routes.js";
import { PEER_ROUTES } from "./routes/peer-routes.js";
import { POINT_ROUTES } from "./routes/point-routes.js";
import { PLAN_ROUTES } from "./routes/plan-routes.js";
import { RELATIONSHIP_ROUTES } from "./routes/relationship-routes.js";
import { STATISTICS_ROUTES } from "./routes/statistics-routes.js";
import { TEST_FAILOVER_ROUTES } from "./routes/test-failover-routes.js";
import { VERIFICATION_ROUTES } from "./routes/verification-routes.js";
import { RETENTION_ROUTES } from "./routes/retention-routes.js";
import { VM_ROUTES } from "./routes/vm-routes.js";

export const ROUTES = {
  ...HOST_ROUTES,
  ...VM_ROUTES,
  ...RELATIONSHIP_ROUTES,
  ...DISK_ROUTES,
  ...GROUP_ROUTES,
  ...GROUP_FAILOVER_ROUTES,
  ...BITMAP_ROUTES,
  ...POINT_ROUTES,
  ...FAILOVER_ROUTES,
  ...EXTENDED_ROUTES,
  ...TARGET_ROUTES,
  ...TEST_FAILOVER_ROUTES,
  ...PLAN_ROUTES,
  ...FIRST_COPY_ROUTES,
  ...PEER_ROUTES,
  ...BULK_ROUTES,
  ...STATISTICS_ROUTES,
  ...COPY_ROUTES,
  ...VERIFICATION_ROUTES,
  ...CONFIGURATION_ROUTES,
  ...RETENTION_ROUTES,
} as const;

export type RouteName = keyof typeof ROUTES;
export type RouteBody<Name extends RouteName> = z.infer<(typeof ROUTES)[Name]["body"]>;
export type RouteBodyInput<Name extends RouteName> = z.input<(typeof ROUTES)[Name]["body"]>;
export type RouteReply<Name extends RouteName> = z.infer<(typeof ROUTES)[Name]["reply"]>;

/** Server-sent events of the host: one JSON ReplicationEvent each. */
export const EVENTS_PATH = "/api/v1/events";
