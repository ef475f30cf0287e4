import { TidemarkError } from "../model/errors.js";
import type { AttachedDevice } from "./attach-disk.js";

/** IN_USE while a checkpoint of the disk is open, or it is attached. */
export function requireClosable(
  path: string,
  checkpointCount: number,
  attached: Iterable<Pick<AttachedDevice, "devicePath">>,
): void {
  if (checkpointCount > 0) {
    throw new TidemarkError(
      "IN_USE",
      `Cannot close disk ${path}: because a checkpoint of it is open.`,
      { hint: "End the checkpoint with commit() or rollback() first." },
    );
  }
  for (const { devicePath } of attached) {
    throw new TidemarkError(
      "IN_USE",
      `Cannot close disk ${path}: because it is attached as ${devicePath}.`,
      { hint: "End that with detach() or release() first." },
    );
  }
}
