import * as bitmaps from "../bitmap-schemas.js";
import { nothing, route } from "./route.js";

export const BITMAP_ROUTES = {
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
} as const;
