import type { NativeTrackedDevice } from "./binding.js";
import { rethrown } from "./native-call.js";

/** No checkpoint outlives its process: what one left in flight counts as changed again. */
export async function giveBackLeftovers(native: NativeTrackedDevice): Promise<void> {
  for (const target of native.targets()) {
    if (target.inFlightBlocks > 0) await rethrown(() => native.giveBack(target.slot));
  }
}
