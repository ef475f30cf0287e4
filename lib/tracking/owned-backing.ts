import { TidemarkError } from "../model/errors.js";
import { binding, type NativeDevice } from "./binding.js";
import { type DiskBacking, openBacking, placeOf } from "./disk-backing.js";
import { isMissing, opened, rethrown } from "./native-call.js";

/** For an image that several hosts see, see docs/shared-storage.md. */
export interface SharedStorageOptions {
  /** Says who may write. Default, for files only: the image's path with ".owner" appended. */
  readonly ownerPath?: string;
  /**
   * Take the disk from an owner that does not let go of it, because it hangs, was stopped or
   * cannot be reached. None of its writes reaches the disk afterwards. Default false: IN_USE.
   */
  readonly takeOver?: boolean;
  /** How long an owner that cannot be reached may go on writing, 1 s to 10 min. Default 10000. */
  readonly leaseMs?: number;
}

/** Whether a disk on shared storage is still ours. */
export interface OwnershipStatus {
  /** Rises with each new owner. */
  readonly epoch: number;
  /** Another holder has taken the disk over: every write fails. */
  readonly isFenced: boolean;
}

const DEFAULT_LEASE_MS = 10_000;

/** The backing, with the permission to write to it where it needs one. */
export async function openOwned(
  backing: DiskBacking,
  bitmapPath: string,
  shared: SharedStorageOptions | undefined,
): Promise<NativeDevice> {
  const place = placeOf(backing);
  if (shared === undefined) return opened(place, () => openBacking(backing));
  const { takeOver = false, leaseMs = DEFAULT_LEASE_MS } = shared;
  if (!Number.isSafeInteger(leaseMs) || leaseMs < 1000 || leaseMs > 600_000) {
    throw invalid(place, "leaseMs is not a whole number from 1000 to 600000");
  }
  if (shared.ownerPath === undefined && backing.kind !== "file") {
    throw invalid(place, "its owner record needs a file of its own (ownerPath)");
  }
  const ownerPath = shared.ownerPath ?? `${place}.owner`;
  // The former owner's image lock cannot be taken away: it goes with its process.
  const isLockIgnored = takeOver && backing.kind === "file" && backing.lock !== "none";
  const device = await opened(place, () =>
    openBacking(isLockIgnored ? { ...backing, lock: "shared" } : backing),
  );
  const owned = await closedOnFailure(device, () =>
    opened(ownerPath, () => binding.ownDevice(device, ownerPath, takeOver, leaseMs)),
  );
  if (!takeOver || (await isMissing(bitmapPath))) return owned;
  await closedOnFailure(owned, () => rethrown(() => binding.takeBitmapOver(bitmapPath)));
  return owned;
}

async function closedOnFailure<T>(device: NativeDevice, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (thrown) {
    // One that was taken over is closed already.
    await device.close().catch(() => undefined);
    throw thrown;
  }
}

function invalid(place: string, reason: string): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `Cannot open ${place}: because ${reason}.`);
}
