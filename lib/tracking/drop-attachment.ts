import { toTidemarkError } from "../model/errors.js";
import {
  ATTACHMENTS_DIRECTORY,
  AttachmentPlace,
  type AttachmentRecord,
} from "./attachment-record.js";
import { fuseLoop } from "./fuse-loop.js";
import { kernelNbd } from "./kernel-nbd.js";

/** Takes a device away that nobody serves any more: what was not written is lost. */
export async function dropAttachment(
  record: AttachmentRecord,
  root = ATTACHMENTS_DIRECTORY,
): Promise<void> {
  const place = new AttachmentPlace(root, record.diskId);
  try {
    await (record.kind === "nbd" ? kernelNbd : fuseLoop).drop(place, record);
    await place.remove();
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
