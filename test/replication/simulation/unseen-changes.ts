import type { MemoryReplica } from "#lib/model/memory-replica.js";
import type { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { Random } from "./random.js";
import { GUEST_DISK, VM_ID } from "./scene.js";

/** Changed by somebody else, or lost by the storage; what notices that tells the tracker at once. */
export class UnseenChanges {
  readonly #tracker: MemoryVmTracker;
  readonly #replica: MemoryReplica;
  readonly #random: Random;
  readonly #count: (name: string) => void;
  #counter = 0;

  constructor(
    tracker: MemoryVmTracker,
    replica: MemoryReplica,
    random: Random,
    count: (name: string) => void,
  ) {
    this.#tracker = tracker;
    this.#replica = replica;
    this.#random = random;
    this.#count = count;
  }

  async change(): Promise<void> {
    this.#count("unseen change");
    const diskIndex = this.#random.below(this.#tracker.disks.length);
    const size = this.#tracker.disks[diskIndex]?.sizeBytes ?? 0;
    const begin = this.#random.below(size);
    const length = 1 + this.#random.below(size - begin);
    if (this.#random.chance(0.5)) await this.#bringBack(diskIndex, begin, length);
    for (let change = this.#random.below(4); change > 0; change -= 1) {
      const offset = begin + this.#random.below(length);
      const lengthBytes = 1 + this.#random.below(begin + length - offset);
      this.#tracker.writeUnseen(diskIndex, offset, Buffer.alloc(lengthBytes, this.#counter));
      this.#counter += 1;
    }
    this.#tracker.suspect(diskIndex, begin, length, "lost writes");
  }

  /** Zeroes when the point does not have the disk. */
  contentAt(pointId: string, diskIndex: number): Uint8Array {
    const { diskId, sizeBytes } = this.#tracker.disks[diskIndex] ?? GUEST_DISK;
    const { disks } = this.#replica.disksOf(VM_ID, pointId);
    if (!disks.some((disk) => disk.diskId === diskId)) return new Uint8Array(sizeBytes);
    return this.#replica.contentOf(VM_ID, pointId, diskId);
  }

  /** Content that the disk had at a recovery point: writes that were lost, or a backup's. */
  async #bringBack(diskIndex: number, begin: number, length: number): Promise<void> {
    const points = await this.#replica.points(VM_ID).catch(() => []);
    const point = this.#random.chance(0.5)
      ? points.at(-1)
      : points[this.#random.below(points.length)];
    if (point === undefined) return;
    const content = this.contentAt(point.pointId, diskIndex);
    this.#tracker.writeUnseen(diskIndex, begin, content.subarray(begin, begin + length));
  }
}
