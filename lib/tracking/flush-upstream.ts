import type { NativeTrackedDevice } from "./binding.js";

const FLUSH_PATIENCE_MS = 30_000;

/**
 * What the server behind an NBD backing has not made durable is kept by the device
 * until it closes; here for the last time. A server that is away has had its chance.
 */
export async function flushUpstream(device: NativeTrackedDevice): Promise<void> {
  const givingUp = setTimeout(() => device.giveUp(), FLUSH_PATIENCE_MS);
  try {
    if (device.upstream()?.isConnected !== true) device.giveUp();
    await device.flush();
  } catch {
    // The guest was told of it, or will find its disk's server gone.
  } finally {
    clearTimeout(givingUp);
  }
}
