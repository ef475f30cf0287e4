import type { FilterExport } from "../../model/hypervisor.js";

const SCHEME = "nbd+unix:///";
const SOCKET = "?socket=";

/** Of a node's place as QEMU writes it, nothing escaped; null when it is no NBD export on a Unix socket. */
export function filterOfPlace(place: string): FilterExport | null {
  const at = place.lastIndexOf(SOCKET);
  if (!place.startsWith("nbd+unix:") || at < 0) return null;
  const exportName = place.startsWith(SCHEME) ? place.slice(SCHEME.length, at) : "";
  return { socketPath: place.slice(at + SOCKET.length), exportName };
}

export function isSameFilter(a: FilterExport | null, b: FilterExport): boolean {
  return a !== null && a.socketPath === b.socketPath && a.exportName === b.exportName;
}
