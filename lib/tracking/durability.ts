import type { Durability } from "../model/durability.js";
import type { NativeTrackedDevice } from "./binding.js";

export interface DurabilityStatus {
  readonly mode: Durability;
  readonly regionBytes: number;
  readonly regionCount: number;
  /** Regions of which power loss now would leave unknown what the disk holds: they would be compared. */
  readonly markedRegions: number;
  /**
   * Why the marks cannot be relied upon; null when they can. Guests are served all
   * the same, and after an unclean end the whole disk is suspect. Lasts until the disk
   * is opened again; what to mend is the storage of the bitmap's file.
   */
  readonly alarm: string | null;
}

export function durabilityOf(native: NativeTrackedDevice): DurabilityStatus {
  const { durability, regionBytes, regionCount, markedRegions, trouble } = native.intentStatus();
  const alarm = trouble === "" ? null : trouble;
  return { mode: durability, regionBytes, regionCount, markedRegions, alarm };
}
