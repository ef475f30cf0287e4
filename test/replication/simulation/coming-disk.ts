import type { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { Random } from "./random.js";
import { GRANULARITY, GUEST_DISK } from "./scene.js";

/** A disk that comes and goes, and is written to while it is away. */
export class ComingDisk {
  readonly #tracker: MemoryVmTracker;
  readonly #random: Random;
  readonly #count: (name: string) => void;
  #away: Uint8Array = new Uint8Array(GUEST_DISK.sizeBytes);

  constructor(tracker: MemoryVmTracker, random: Random, count: (name: string) => void) {
    this.#tracker = tracker;
    this.#random = random;
    this.#count = count;
  }

  /** Sometimes away and here again, or here and away, before anybody has seen it. */
  change(): void {
    this.#swap();
    if (this.#random.chance(0.3)) this.#swap();
  }

  #swap(): void {
    const { diskId, sizeBytes } = GUEST_DISK;
    if (this.#tracker.disks.some((disk) => disk.diskId === diskId)) {
      this.#count("disk removed");
      this.#away = this.#tracker.removeDisk(diskId);
      return;
    }
    this.#count("disk added");
    const content = new Uint8Array(sizeBytes);
    content.set(this.#away.subarray(0, sizeBytes));
    for (let offset = 0; offset < sizeBytes; offset += GRANULARITY) {
      const value = this.#random.pick([null, null, 0, 0xbb]);
      if (value !== null) content.fill(value, offset, offset + GRANULARITY);
    }
    this.#tracker.addDisk(GUEST_DISK, content);
  }
}
