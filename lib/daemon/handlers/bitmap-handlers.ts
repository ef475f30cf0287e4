import type { BITMAP_ROUTES } from "../../management/routes/bitmap-routes.js";
import type { HostParts } from "../host-parts.js";
import type { VmBitmaps } from "../vm-bitmaps.js";
import { findPrimary } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function bitmapHandlers(parts: HostParts): TopicHandlers<typeof BITMAP_ROUTES> {
  return {
    bitmapList: async (_body, { vm }) => (await bitmapsOf(parts, vm)).list(),
    bitmapAdd: async (request, { vm }) => (await bitmapsOf(parts, vm)).add(request),
    bitmapRemove: async (_body, { vm, bitmap }) => {
      await (await bitmapsOf(parts, vm)).remove(bitmap ?? "");
      return {};
    },
    backupBegin: async (request, { vm, bitmap }) =>
      (await bitmapsOf(parts, vm)).begin(bitmap ?? "", request),
    backupCommit: async (_body, { vm, bitmap }) => {
      await (await bitmapsOf(parts, vm)).commit(bitmap ?? "");
      return {};
    },
    backupAbandon: async (_body, { vm, bitmap }) => {
      await (await bitmapsOf(parts, vm)).abandon(bitmap ?? "");
      return {};
    },
  };
}

async function bitmapsOf(parts: HostParts, vm: string | undefined): Promise<VmBitmaps> {
  return (await parts.vms.served(findPrimary(parts, vm).vmId)).bitmaps;
}
