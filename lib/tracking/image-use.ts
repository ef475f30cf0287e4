import type { ImageLock } from "./binding.js";
import type { DiskBacking } from "./disk-backing.js";

/** How a disk's image is open here. */
export interface ImageUse {
  /** "none" for what is no file or block device. */
  readonly lock: ImageLock;
  /** Past the page cache. */
  readonly isDirect: boolean;
}

export function imageUseOf(backing: DiskBacking): ImageUse {
  if (backing.kind !== "file") return { lock: "none", isDirect: false };
  return { lock: backing.lock ?? "exclusive", isDirect: backing.direct ?? false };
}
