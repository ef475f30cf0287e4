/**
 * The management API: the one table of its routes. The server registers them,
 * the client and with it the CLI are typed from them.
 */
import type { z } from "zod";
import * as bitmaps from "./bitmap-schemas.js";
import * as schema from "./schemas.js";

export interface Route<Body extends z.ZodType, Reply extends z.ZodType> {
  readonly method: "GET" | "POST" | "DELETE";
  /** ":vm" takes a VM's id or name, ":disk" that of one of its disks, ":group" a group's, ":bitmap" a name. */
  readonly path: string;
  readonly body: Body;
  readonly reply: Reply;
  readonly summary: string;
}

function route<Body extends z.ZodType, Reply extends z.ZodType>(
  method: Route<Body, Reply>["method"],
  path: string,
  body: Body,
  reply: Reply,
  summary: string,
): Route<Body, Reply> {
  return { method, path: `/api/v1${path}`, body, reply, summary };
}

const { nothing } = schema;

export const ROUTES = {
  hostStatus: route("GET", "/host", nothing, schema.hostStatus, "The host and its VMs"),
  vmList: route("GET", "/vms", nothing, schema.vmStatus.array(), "All VMs"),
  vmEnable: route(
    "POST",
    "/vms",
    schema.vmEnableRequest,
    schema.vmStatus,
    "Enable replication of a VM",
  ),
  vmStatus: route("GET", "/vms/:vm", nothing, schema.vmStatus, "One VM"),
  vmSuspend: route("POST", "/vms/:vm/suspend", nothing, schema.vmStatus, "Suspend its replication"),
  vmResume: route("POST", "/vms/:vm/resume", nothing, schema.vmStatus, "Resume its replication"),
  vmRemove: route("DELETE", "/vms/:vm", nothing, nothing, "Remove its replication"),
  vmGroup: route(
    "POST",
    "/vms/:vm/group",
    schema.vmGroupRequest,
    schema.vmStatus,
    "Join or leave a consistency group",
  ),
  groupList: route(
    "GET",
    "/groups",
    nothing,
    schema.groupStatus.array(),
    "The consistency groups that are cut here",
  ),
  groupPointList: route(
    "GET",
    "/groups/:group/points",
    nothing,
    schema.groupRecoveryPoint.array(),
    "A group's cuts, and the recovery points that belong to each",
  ),
  diskResize: route(
    "POST",
    "/vms/:vm/disks/:disk/resize",
    schema.diskResizeRequest,
    schema.vmStatus,
    "Grow a disk",
  ),
  bitmapList: route(
    "GET",
    "/vms/:vm/bitmaps",
    nothing,
    bitmaps.bitmap.array(),
    "The bitmaps that backup tools have on its disks",
  ),
  bitmapAdd: route(
    "POST",
    "/vms/:vm/bitmaps",
    bitmaps.bitmapAddRequest,
    bitmaps.bitmap,
    "Add a bitmap to its disks",
  ),
  bitmapRemove: route("DELETE", "/vms/:vm/bitmaps/:bitmap", nothing, nothing, "Remove a bitmap"),
  backupBegin: route(
    "POST",
    "/vms/:vm/bitmaps/:bitmap/backup",
    bitmaps.backupBeginRequest,
    bitmaps.backup,
    "Freeze its disks at one instant, to be read with the bitmap's changes",
  ),
  backupCommit: route(
    "POST",
    "/vms/:vm/bitmaps/:bitmap/backup/commit",
    nothing,
    nothing,
    "End the backup: its changes are forgotten",
  ),
  backupAbandon: route(
    "DELETE",
    "/vms/:vm/bitmaps/:bitmap/backup",
    nothing,
    nothing,
    "End the backup: its changes count again",
  ),
  pointList: route(
    "GET",
    "/vms/:vm/points",
    nothing,
    schema.recoveryPoint.array(),
    "Its recovery points",
  ),
  testFailover: route(
    "POST",
    "/vms/:vm/test-failovers",
    schema.failoverRequest,
    schema.pointExport,
    "Open a recovery point for a test",
  ),
  failover: route(
    "POST",
    "/vms/:vm/failovers",
    schema.failoverRequest,
    schema.pointExport,
    "Open a recovery point for use",
  ),
  exportClose: route(
    "DELETE",
    "/exports/:export",
    nothing,
    nothing,
    "End a test failover or cancel a failover",
  ),
} as const;

export type RouteName = keyof typeof ROUTES;
export type RouteBody<Name extends RouteName> = z.infer<(typeof ROUTES)[Name]["body"]>;
export type RouteBodyInput<Name extends RouteName> = z.input<(typeof ROUTES)[Name]["body"]>;
export type RouteReply<Name extends RouteName> = z.infer<(typeof ROUTES)[Name]["reply"]>;

/** Server-sent events of the host: one JSON ReplicationEvent each. */
export const EVENTS_PATH = "/api/v1/events";
