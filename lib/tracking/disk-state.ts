import type { DiskState } from "../model/disk-state.js";
import { TidemarkError } from "../model/errors.js";
import { type SuspicionCause, suspicionCausesOf } from "../model/suspicion.js";
import { ANY_DISK } from "./any-disk.js";
import { binding, type DiskStateStage, type NativeDiskState } from "./binding.js";
import { BitmapNames } from "./bitmap-names.js";
import { backingOf, type DiskBacking, openBacking, placeOf } from "./disk-backing.js";
import { opened, rethrown } from "./native-call.js";
import { bitmapNamesOf, stateAnnex } from "./state-annex.js";
import { targetIdOf } from "./target-id.js";

export interface ExportStateOptions {
  readonly bitmapPath: string;
  /** A new file. */
  readonly statePath: string;
  /** UUID. With it, another disk's bitmap is refused (FOREIGN). */
  readonly diskId?: string;
}

export interface ImportStateOptions {
  readonly statePath: string;
  /** In place of `backing`: where the disk's content is now. */
  readonly path?: string;
  readonly backing?: DiskBacking;
  /** Default, for files and block devices only: the path with ".tidemark" appended. */
  readonly bitmapPath?: string;
  /** UUID. With it, another disk's state is refused (FOREIGN). */
  readonly diskId?: string;
}

export interface TakeBackStateOptions {
  readonly bitmapPath: string;
  /** What the export wrote; null when it is lost: everything is suspect then. */
  readonly statePath: string | null;
}

/**
 * Gives a closed disk's tracking state to another holder. From then on the disk cannot
 * be opened here (HANDED_OVER) until the state comes back. After a crash the same call
 * goes on where it was.
 */
export async function exportDiskState(options: ExportStateOptions): Promise<DiskState> {
  const { bitmapPath, statePath, diskId = ANY_DISK } = options;
  const { names } = await BitmapNames.open(bitmapPath);
  const state = await opened(bitmapPath, () =>
    binding.exportState(bitmapPath, diskId, statePath, stateAnnex(names)),
  );
  return withNames(state);
}

/**
 * Makes the bitmap of a disk whose state was exported elsewhere, once. That the content
 * is in another file now is allowed; that it is other content makes everything suspect,
 * which is answered. Open the disk with TrackedDisk.open() afterwards.
 */
export async function importDiskState(options: ImportStateOptions): Promise<SuspicionCause[]> {
  const backing = options.backing ?? backingOf(options.path ?? "");
  const bitmapPath = options.bitmapPath ?? `${placeOf(backing)}.tidemark`;
  if (options.bitmapPath === undefined && backing.kind !== "file") {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot import the state of ${placeOf(backing)}: because its bitmap needs a file of its own.`,
      { hint: "Name one (bitmapPath, --bitmap)." },
    );
  }
  const { statePath, diskId = ANY_DISK } = options;
  const device = await opened(placeOf(backing), () => openBacking(backing));
  try {
    const imported = await opened(statePath, () =>
      binding.importState(statePath, bitmapPath, diskId, device),
    );
    const names = await BitmapNames.open(bitmapPath);
    // The disk is ours by now: without their names bitmaps work, they are only not listed.
    await names.addAll(withNames(imported).bitmapNames).catch(() => undefined);
    return suspicionCausesOf(imported.foundCauses);
  } finally {
    await device.close();
  }
}

/** Ends an export that nobody imported: the disk may be opened here again, the state not be imported. */
export async function takeBackDiskState(options: TakeBackStateOptions): Promise<void> {
  await rethrown(() => binding.takeBackState(options.bitmapPath, options.statePath ?? ""));
}

/** Reads and checks a whole state file. */
export async function describeDiskState(
  statePath: string,
): Promise<DiskState & { readonly stage: DiskStateStage }> {
  const state = await opened(statePath, () => binding.describeState(statePath));
  return { ...withNames(state), stage: state.stage };
}

/** Without those whose bitmap was removed. */
function withNames({ annex, ...state }: NativeDiskState): DiskState {
  const isThere = (name: string) => state.targetIds.includes(targetIdOf(name));
  return { ...state, bitmapNames: bitmapNamesOf(annex).filter(isThere) };
}
