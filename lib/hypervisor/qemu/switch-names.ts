import { createHash } from "node:crypto";

/** How what a switch leaves in QEMU is called: whoever comes later finds it by its disk. */
export interface SwitchNames {
  readonly jobId: string;
  readonly mirrorNode: string;
  readonly filterNode: string;
  readonly imageNode: string;
}

/** QEMU's names have at most 31 characters. */
export function switchNamesOf(diskName: string): SwitchNames {
  const key = createHash("sha256").update(diskName).digest("hex").slice(0, 12);
  return {
    jobId: `tidemark-switch-${key}`,
    mirrorNode: `tidemark-mirror-${key}`,
    filterNode: `tidemark-filter-${key}`,
    imageNode: `tidemark-image-${key}`,
  };
}
