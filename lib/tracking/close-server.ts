import type { NativeTrackedDevice } from "./binding.js";
import type { NbdServer } from "./nbd-server.js";

/** Longer than the second for which a server that stops still sends replies. */
const CLOSE_PATIENCE_MS = 2_000;

/**
 * Closes a server of the disks. After a grace period it does not answer its
 * requests any more, and those that an upstream's absence holds up are ended then:
 * a guest sees a lost connection, not an error.
 */
export async function closeServer(
  server: NbdServer,
  disks: readonly NativeTrackedDevice[],
): Promise<void> {
  const givingUp = setTimeout(() => {
    for (const disk of disks) disk.giveUp();
  }, CLOSE_PATIENCE_MS);
  try {
    await server.close();
  } finally {
    clearTimeout(givingUp);
  }
}
