import { once } from "node:events";
import type { AttachCommandOptions, AttachState } from "../cli/local-commands.js";
import { TidemarkError } from "../model/errors.js";
import type { AttachedDevice, AttachOptions } from "../tracking/attach-disk.js";
import { TrackedDisk } from "../tracking/tracked-disk.js";

const DEFAULT_RECONNECT_LIMIT_MS = 300_000;

/**
 * `tidemark attach`: one disk as a block device until the signal. A device that
 * is in use then stays, for the next process.
 */
export async function attachUntil(
  options: AttachCommandOptions,
  signal: AbortSignal,
  onState: (state: AttachState) => void,
): Promise<void> {
  const bitmapPath = options.bitmapPath ?? `${options.diskPath}.tidemark`;
  await using disk = await TrackedDisk.open({ path: options.diskPath, bitmapPath });
  const reconnectLimitMs = options.reconnectLimitMs ?? DEFAULT_RECONNECT_LIMIT_MS;
  const attached = await disk.attach({ ...attachOptions(options), reconnectLimitMs });
  const tell = (event: AttachState["event"]) => {
    const { devicePath, kind, isResumed } = attached;
    const { sizeBytes } = disk;
    onState({ event, devicePath, kind, isResumed, sizeBytes, bitmapPath, reconnectLimitMs });
  };
  tell("attached");
  if (!signal.aborted) await once(signal, "abort");
  tell(await end(attached));
}

function attachOptions(options: AttachCommandOptions): AttachOptions {
  const { kind, devicePath, connectionCount, requestLimitMs } = options;
  return {
    kind,
    ...(devicePath === null ? {} : { devicePath }),
    ...(connectionCount === null ? {} : { connectionCount }),
    ...(requestLimitMs === null ? {} : { requestLimitMs }),
  };
}

async function end(attached: AttachedDevice): Promise<"detached" | "released"> {
  try {
    await attached.detach();
    return "detached";
  } catch (thrown) {
    await attached.release();
    if (thrown instanceof TidemarkError && thrown.code === "IN_USE") return "released";
    throw thrown;
  }
}
