import type { DiskFilter } from "../../model/hypervisor.js";
import type { BlockDevice } from "./block-graph.js";

/** How long QEMU waits for the service to come back before its guest meets an I/O error. */
const RECONNECT_DELAY_S = 120;

/** For blockdev-add: the way by the filter, in the image's cache mode. */
export function filterNode(nodeName: string, { root }: BlockDevice, filter: DiskFilter): object {
  return {
    driver: "nbd",
    "node-name": nodeName,
    server: { type: "unix", path: filter.socketPath },
    export: filter.exportName,
    "reconnect-delay": RECONNECT_DELAY_S,
    discard: "unmap",
    "detect-zeroes": root.detectsZeroes,
    cache: { direct: root.isDirect, "no-flush": root.ignoresFlushes },
  };
}
