import { once } from "node:events";
import { createConnection } from "node:net";
import { TidemarkError } from "../../model/errors.js";
import type { FilterExport } from "../../model/hypervisor.js";

const LIMIT_MS = 5000;

/**
 * Throws unless an NBD server greets there. QEMU stands still while it connects, its guest with
 * it, so it is not sent to a socket that nobody serves.
 */
export async function requireAnswering(filter: FilterExport, signal: AbortSignal): Promise<void> {
  const socket = createConnection(filter.socketPath);
  try {
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    const [greeting] = (await once(socket, "data", { signal: bounded })) as [Buffer];
    if (greeting.subarray(0, 8).toString("latin1") === "NBDMAGIC") return;
    throw new Error("what answers is no NBD server");
  } catch (cause) {
    signal.throwIfAborted();
    const why = cause instanceof Error && cause.name !== "AbortError" ? cause.message : "silence";
    throw new TidemarkError(
      "UNREACHABLE",
      `Cannot insert the filter: because nobody serves ${filter.socketPath} (${why}).`,
      { hint: "Serve the tracked disk there first.", cause },
    );
  } finally {
    socket.destroy();
  }
}
