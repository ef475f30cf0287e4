import type { DiskGeometry } from "./disk.js";
import type { DiskMarks } from "./disk-marks.js";
import { unionOf } from "./extent-list.js";
import { at, type BlockMap } from "./memory-block-map.js";
import { blocksOf, eachBlockOf, extentsOf } from "./memory-blocks.js";
import type { MemoryCapture } from "./memory-capture.js";
import { MemoryKnownContent } from "./memory-known-content.js";
import type { SuspicionCause } from "./suspicion.js";
import type { TargetProgress } from "./vm-tracker.js";

/** What a MemoryVmTracker keeps of a target. */
export interface MemoryTarget {
  /** The disks that have it; the maps of others mean nothing. */
  readonly diskIds: Set<string>;
  readonly pending: BlockMap;
  readonly inFlight: BlockMap;
  readonly staged: BlockMap;
  readonly suspect: BlockMap;
  readonly causes: Set<SuspicionCause>;
  readonly known: MemoryKnownContent;
  /** Suspicions that were raised; a comparison that began before one proves nothing. */
  suspicionCount: number;
  changes: OpenChanges | null;
}

interface OpenChanges {
  readonly capture: MemoryCapture | null;
  invalidate(): void;
}

/** That no disk has yet. */
export function newMemoryTarget(disks: readonly DiskGeometry[]): MemoryTarget {
  return {
    diskIds: new Set(),
    pending: newBlockMap(disks),
    inFlight: newBlockMap(disks),
    staged: newBlockMap(disks),
    suspect: newBlockMap(disks),
    causes: new Set(),
    known: new MemoryKnownContent(),
    suspicionCount: 0,
    changes: null,
  };
}

export function newBlockMap(disks: readonly DiskGeometry[]): BlockMap {
  return disks.map((disk) => new Uint8Array(blockCountOf(disk)));
}

export function blockCountOf({ sizeBytes, granularityBytes }: DiskGeometry): number {
  return Math.ceil(sizeBytes / granularityBytes);
}

export function mapsOf({ pending, inFlight, staged, suspect }: MemoryTarget): BlockMap[] {
  return [pending, inFlight, staged, suspect];
}

export function progressOf(
  target: MemoryTarget,
  live: BlockMap,
  disks: readonly DiskGeometry[],
): TargetProgress {
  const sums = { pendingBytes: 0, inFlightBytes: 0, stagedBytes: 0, suspectBytes: 0 };
  const { pending, inFlight, staged, suspect } = target;
  for (const [diskIndex, disk] of disks.entries()) {
    if (!target.diskIds.has(disk.diskId)) continue;
    for (let block = 0; block < blockCountOf(disk); block += 1) {
      const offsetBytes = block * disk.granularityBytes;
      const lengthBytes = Math.min(disk.granularityBytes, disk.sizeBytes - offsetBytes);
      const ahead = at(pending, diskIndex)[block] || at(live, diskIndex)[block];
      if (ahead) sums.pendingBytes += lengthBytes;
      if (at(inFlight, diskIndex)[block]) sums.inFlightBytes += lengthBytes;
      if (at(staged, diskIndex)[block]) sums.stagedBytes += lengthBytes;
      if (at(suspect, diskIndex)[block]) sums.suspectBytes += lengthBytes;
    }
  }
  return { ...sums, suspicionCauses: [...target.causes] };
}

/** What is staged would hide the head that is compared with: it travels. */
export function unsuspectStaged({ staged, suspect, pending }: MemoryTarget): void {
  staged.forEach((blocks, diskIndex) => {
    blocks.forEach((mark, block) => {
      if (!mark || !at(suspect, diskIndex)[block]) return;
      at(pending, diskIndex)[block] = 1;
      at(suspect, diskIndex)[block] = 0;
    });
  });
}

/** About as much of what is pending as the limit says. */
export function takeInFlight(
  { pending, inFlight }: MemoryTarget,
  disks: readonly DiskGeometry[],
  limitBytes = Number.POSITIVE_INFINITY,
): void {
  let takenBytes = 0;
  for (const [diskIndex, disk] of disks.entries()) {
    for (const { block, lengthBytes } of blocksOf(disk)) {
      if (!at(pending, diskIndex)[block] || takenBytes >= limitBytes) continue;
      at(pending, diskIndex)[block] = 0;
      at(inFlight, diskIndex)[block] = 1;
      takenBytes += lengthBytes;
    }
  }
}

/** What is suspect is not known either. */
export function forgetSuspects(
  { suspect, known }: MemoryTarget,
  disks: readonly DiskGeometry[],
): void {
  for (const [diskIndex, { diskId }] of disks.entries()) {
    if (at(suspect, diskIndex).includes(1)) known.forget(diskId);
  }
}

/** Of the disks that have it. */
export function marksOfTarget(
  target: MemoryTarget,
  live: BlockMap,
  disks: readonly DiskGeometry[],
): readonly DiskMarks[] {
  const maps = [live, target.pending, target.inFlight, target.staged];
  return disks.flatMap((disk, diskIndex) => {
    const { diskId } = disk;
    if (!target.diskIds.has(diskId)) return [];
    const changed = unionOf(...maps.map((map) => extentsOf(at(map, diskIndex), disk)));
    return [{ diskId, changed, suspect: unionOf(extentsOf(at(target.suspect, diskIndex), disk)) }];
  });
}

export function markTarget(
  target: MemoryTarget,
  disks: readonly DiskGeometry[],
  marks: readonly DiskMarks[],
): void {
  for (const { diskId, changed, suspect } of marks) {
    const diskIndex = disks.findIndex((disk) => disk.diskId === diskId);
    const disk = at(disks, diskIndex);
    target.known.forget(diskId);
    eachBlockOf(changed, disk, (block) => (at(target.pending, diskIndex)[block] = 1));
    eachBlockOf(suspect, disk, (block) => (at(target.suspect, diskIndex)[block] = 1));
    if (suspect.length === 0) continue;
    target.suspicionCount += 1;
    target.causes.add("replica differs");
  }
}
