/**
 * What a target's newest point holds, in memory: the content itself stands for its hash.
 * Of each disk it is right for one point, or for none.
 */
import type { SegmentPlan } from "./delta.js";
import type { DiskGeometry } from "./disk.js";
import { at } from "./memory-block-map.js";

interface KnownDisk {
  readonly geometry: DiskGeometry;
  /** Null: of no point; then no block is known. */
  readonly pointId: string | null;
  readonly blocks: ReadonlyMap<number, string>;
}

export class MemoryKnownContent {
  readonly #disks = new Map<string, KnownDisk>();

  forget(diskId: string): void {
    this.#disks.delete(diskId);
  }

  forgetAll(): void {
    this.#disks.clear();
  }

  /** Of the point, if it is known of that one and of a disk of this shape; else of none. */
  of(geometry: DiskGeometry, pointId: string | null): KnownDisk {
    const known = this.#disks.get(geometry.diskId);
    const isOfPoint = known !== undefined && known.pointId === pointId && pointId !== null;
    if (isOfPoint && isSameShape(known.geometry, geometry)) return known;
    return { geometry, pointId: null, blocks: new Map() };
  }

  learn(known: KnownDisk): void {
    this.#disks.set(known.geometry.diskId, known);
  }
}

/** Leaves out of the segments of one cut what the target has, and learns what it will have. */
export class MemoryContentFilter {
  readonly #known: MemoryKnownContent;
  readonly #disks: readonly KnownDisk[];
  readonly #read: readonly Map<number, string>[];

  constructor(known: MemoryKnownContent, disks: readonly DiskGeometry[], since: string | null) {
    this.#known = known;
    this.#disks = disks.map((disk) => known.of(disk, since));
    this.#read = disks.map(() => new Map());
  }

  /** The plan with as much of its extents as travels, and what that holds. */
  filter(
    plan: SegmentPlan,
    contents: readonly Uint8Array[],
  ): { readonly plan: SegmentPlan; readonly contents: readonly Uint8Array[] } {
    const { granularityBytes, diskIndex } = plan;
    const pairs: number[] = [];
    const kept: Uint8Array[] = [];
    for (const [index, content] of contents.entries()) {
      const begin = plan.extents[2 * index] ?? 0;
      for (let done = 0; done < content.length; done += granularityBytes) {
        const block = content.subarray(done, done + granularityBytes);
        if (this.#isKnown(diskIndex, (begin + done) / granularityBytes, block)) continue;
        pairs.push(begin + done, block.length);
        kept.push(block);
      }
    }
    return { plan: { ...plan, extents: Float64Array.from(pairs) }, contents: kept };
  }

  /** The target holds the cut as this point. A disk of which not all was read is not known. */
  settle(pointId: string, plans: readonly SegmentPlan[]): void {
    for (const [diskIndex, { geometry, blocks }] of this.#disks.entries()) {
      const read = at(this.#read, diskIndex);
      if (read.size === blockCountOf(plans, diskIndex)) {
        this.#known.learn({ geometry, pointId, blocks: new Map([...blocks, ...read]) });
      } else {
        this.#known.forget(geometry.diskId);
      }
    }
  }

  forget(): void {
    for (const { geometry } of this.#disks) this.#known.forget(geometry.diskId);
  }

  #isKnown(diskIndex: number, block: number, content: Uint8Array): boolean {
    const text = Buffer.from(content).toString("hex");
    at(this.#read, diskIndex).set(block, text);
    return at(this.#disks, diskIndex).blocks.get(block) === text;
  }
}

function isSameShape(one: DiskGeometry, other: DiskGeometry): boolean {
  return one.sizeBytes === other.sizeBytes && one.granularityBytes === other.granularityBytes;
}

function blockCountOf(plans: readonly SegmentPlan[], diskIndex: number): number {
  let count = 0;
  for (const plan of plans) {
    if (plan.diskIndex !== diskIndex) continue;
    for (let index = 1; index < plan.extents.length; index += 2) {
      count += Math.ceil((plan.extents[index] ?? 0) / plan.granularityBytes);
    }
  }
  return count;
}
