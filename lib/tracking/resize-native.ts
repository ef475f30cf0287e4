import { TidemarkError } from "../model/errors.js";
import type { NativeTrackedDevice } from "./binding.js";
import type { ResizeOptions } from "./tracked-disk-options.js";

/** Either way; INVALID_ARGUMENT for a smaller size without consent. */
export async function resizeNative(
  native: NativeTrackedDevice,
  sizeBytes: number,
  { dropsData = false }: ResizeOptions,
): Promise<void> {
  if (sizeBytes >= native.sizeBytes) return native.resize(sizeBytes);
  if (dropsData) return native.shrink(sizeBytes);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot resize the disk to ${sizeBytes} bytes: because it has ${native.sizeBytes}, and what lies past the new end would be gone.`,
    { hint: "Shrink what is on the disk first, then say so (dropsData, --drop-data)." },
  );
}
