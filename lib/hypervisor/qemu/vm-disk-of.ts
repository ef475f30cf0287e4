import { isAbsolute } from "node:path";
import type { VmDisk } from "../../model/hypervisor.js";
import type { BlockDevice } from "./block-graph.js";
import { filterOfPlace } from "./filter-place.js";

export function vmDiskOf({ name, root }: BlockDevice): VmDisk {
  const { driver, place, sizeBytes, isReadOnly, isDirect } = root;
  const filter = filterOfPlace(place);
  return {
    name,
    imagePath: isAbsolute(place) ? place : null,
    format: driver,
    sizeBytes,
    isReadOnly,
    isDirect,
    filter,
  };
}
