import { randomUUID } from "node:crypto";
import type { DeltaHeader } from "#lib/model/delta.js";
import type { Generation, ReplicatedVm } from "#lib/model/disk.js";
import { LayerSegmentSink, type SegmentPlace } from "#lib/replica/layer-segment-sink.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import { openPointDisk } from "#lib/replica/open-point-disk.js";
import type { PointDisk } from "#lib/replica/opened-point.js";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import type { LayerNative } from "#lib/replica/replica-tools.js";
import { newSegmentDigest } from "#lib/tracking/segment-digest.js";
import { deltaDigest, type PlainSegment, segmentSource } from "../../contracts/segment-bytes.js";
import type { MemoryFiles } from "./memory-files.js";
import { PlainDecoder, plainLayers } from "./plain-layers.js";

export const GRANULARITY = 4096;
export const BLOCK_COUNT = 8;

/** Values of blocks by disk and block; 0 is a block of zeroes. */
export type Blocks = Readonly<Record<number, Readonly<Record<number, number>>>>;

/** A store over plain layers, on files in memory. */
export function openPlainStore(
  root: string,
  files: MemoryFiles,
  native: LayerNative = plainLayers(files),
  nowMs: () => number = Date.now,
): Promise<ReplicaStore> {
  const tools = {
    native,
    newDecoder: () => new PlainDecoder(),
    newDigest: newSegmentDigest,
    files,
  };
  return ReplicaStore.open({
    root,
    files,
    native,
    nowMs,
    openSink: async (slot) => new LayerSegmentSink(slot.place as SegmentPlace, tools),
  });
}

/** One VM with two small disks, and what its primary would do. */
export class Scene {
  readonly generation: Generation;
  readonly vm: ReplicatedVm;
  #cutSequence = 0;

  constructor(
    vm: ReplicatedVm = newVm(),
    generation: Generation = { number: 1, id: randomUUID() },
  ) {
    this.vm = vm;
    this.generation = generation;
  }

  header(parts: Partial<DeltaHeader> = {}): DeltaHeader {
    this.#cutSequence += 1;
    return {
      formatVersion: 1,
      deltaId: randomUUID(),
      attempt: 1,
      kind: "point",
      vmId: this.vm.vmId,
      generation: this.generation,
      parentPointId: null,
      stagingSessionId: null,
      cut: {
        sequence: this.#cutSequence,
        takenAtMs: 1_700_000_000_000 + this.#cutSequence * 1000,
        pauseNs: 1000,
        requestsInFlight: 0,
        consistency: "crash",
      },
      disks: this.vm.disks,
      segmentCount: 0,
      ...parts,
    };
  }

  /** One segment a disk. */
  segments(deltaId: string, blocks: Blocks): readonly PlainSegment[] {
    return Object.entries(blocks).map(([diskIndex, values], segmentIndex) => ({
      deltaId,
      diskIndex: Number(diskIndex),
      segmentIndex,
      granularity: GRANULARITY,
      records: Object.entries(values).map(([block, value]) => ({
        offset: Number(block) * GRANULARITY,
        length: GRANULARITY,
        data: value === 0 ? null : Buffer.alloc(GRANULARITY, value),
      })),
    }));
  }

  /** Announces, sends what is missing, commits. */
  async deliver(store: ReplicaEndpoint, header: DeltaHeader, blocks: Blocks) {
    const segments = this.segments(header.deltaId, blocks);
    await this.send(store, header, segments);
    return this.commit(store, header, segments);
  }

  async send(store: ReplicaEndpoint, header: DeltaHeader, segments: readonly PlainSegment[]) {
    const durable = await store.openDelta({ ...header, segmentCount: segments.length });
    const there = new Set(durable.map(({ segmentIndex }) => segmentIndex));
    for (const segment of segments) {
      if (!there.has(segment.segmentIndex)) await store.putSegment(segmentSource(segment));
    }
  }

  commit(store: ReplicaEndpoint, header: DeltaHeader, segments: readonly PlainSegment[]) {
    const { vmId, deltaId, attempt, generation } = header;
    const digest = deltaDigest(segments);
    return store.commit({ vmId, deltaId, attempt, generation, digest });
  }

  async point(store: ReplicaStore, parentPointId: string | null, blocks: Blocks) {
    const point = await this.deliver(store, this.header({ parentPointId }), blocks);
    if (point === null) throw new Error("a point delta answered no point");
    return point;
  }
}

function newVm(): ReplicatedVm {
  const disk = (name: string) => ({
    diskId: randomUUID(),
    name,
    sizeBytes: BLOCK_COUNT * GRANULARITY,
    granularityBytes: GRANULARITY,
  });
  return { vmId: randomUUID(), name: "guest", disks: [disk("vda"), disk("vdb")] };
}

/** A disk's whole content at the point. */
export async function readDisk(
  store: ReplicaStore,
  native: Pick<LayerNative, "openLayeredDevice">,
  vmId: string,
  pointId: string,
  diskIndex: number,
): Promise<Buffer> {
  const opened = await store.openPoint(vmId, pointId);
  try {
    const disk = opened.disks[diskIndex];
    if (disk === undefined) throw new Error(`no disk ${diskIndex}`);
    return await readOpenedDisk(native, disk);
  } finally {
    opened.release();
  }
}

/** Through the files that it was opened with. */
export async function readOpenedDisk(
  native: Pick<LayerNative, "openLayeredDevice">,
  disk: PointDisk,
): Promise<Buffer> {
  const device = await openPointDisk(native, disk);
  try {
    const content = Buffer.alloc(disk.geometry.sizeBytes);
    await device.read(0, content);
    return content;
  } finally {
    await device.close();
  }
}

/** The value of each block of each disk at the point; throws on a block of mixed content. */
export async function readBlocks(
  store: ReplicaStore,
  native: LayerNative,
  vmId: string,
  pointId: string,
): Promise<readonly (readonly number[])[]> {
  return Promise.all(
    [0, 1].map(async (diskIndex) =>
      blockValues(await readDisk(store, native, vmId, pointId, diskIndex)),
    ),
  );
}

export function blockValues(content: Buffer): number[] {
  return Array.from({ length: content.length / GRANULARITY }, (_, block) => {
    const bytes = content.subarray(block * GRANULARITY, (block + 1) * GRANULARITY);
    const value = bytes[0] ?? 0;
    if (!bytes.equals(blockOf(value))) throw new Error(`block ${block} is mixed`);
    return value;
  });
}

const BLOCK_OF_VALUE = new Map<number, Buffer>();

function blockOf(value: number): Buffer {
  const known = BLOCK_OF_VALUE.get(value) ?? Buffer.alloc(GRANULARITY, value);
  BLOCK_OF_VALUE.set(value, known);
  return known;
}

/** What the disks hold after the changes, by the rules alone. */
export class ExpectedDisks {
  #disks: readonly (readonly number[])[];

  constructor(disks?: readonly (readonly number[])[]) {
    this.#disks = disks ?? [0, 1].map(() => Array.from({ length: BLOCK_COUNT }, () => 0));
  }

  with(blocks: Blocks): ExpectedDisks {
    return new ExpectedDisks(
      this.#disks.map((disk, diskIndex) =>
        disk.map((value, block) => blocks[diskIndex]?.[block] ?? value),
      ),
    );
  }

  get values(): readonly (readonly number[])[] {
    return this.#disks;
  }
}
