import { toTidemarkError } from "../model/errors.js";
import type { RelationshipLink } from "./relationship-link.js";

/** Of the VM's bitmaps; a VM that is gone has no bits to remove. */
export async function removeTarget(link: RelationshipLink): Promise<void> {
  try {
    const { tracker, targetId } = await link.connect();
    await tracker.removeTarget(targetId);
  } catch (thrown) {
    if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
  }
}
