import { createHash, randomUUID } from "node:crypto";
import type { Test } from "tap";
import type { BlockHashRequest } from "#lib/model/block-hashes.js";
import type { DeltaHeader } from "#lib/model/delta.js";
import type { Generation, ReplicatedVm } from "#lib/model/disk.js";
import { type ErrorCode, TidemarkError } from "#lib/model/errors.js";
import { type LineageEntry, type Succession, successorOf } from "#lib/model/lineage.js";
import type { RecoveryPoint, ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import { deltaDigest, type PlainSegment, segmentSource } from "./segment-bytes.js";

export interface EndpointUnderTest {
  readonly endpoint: ReplicaEndpoint;
  /** The whole content of a disk at a recovery point, where the implementation can tell. */
  readonly readPoint?: (vmId: string, pointId: string, diskIndex: number) => Promise<Uint8Array>;
  readonly close?: () => Promise<void>;
}

export const GRANULARITY = 4096;

/** One VM with two disks on the endpoint, and short words for what is done to it. */
export class ReplicaScene {
  readonly endpoint: ReplicaEndpoint;
  vm: ReplicatedVm;
  generation: Generation = { number: 1, id: randomUUID() };
  readonly #made: EndpointUnderTest;
  #sequence = 0;

  constructor(made: EndpointUnderTest) {
    this.#made = made;
    this.endpoint = made.endpoint;
    const disk = (diskName: string, sizeBytes: number) => ({
      diskId: randomUUID(),
      name: diskName,
      sizeBytes,
      granularityBytes: GRANULARITY,
    });
    const disks = [disk("vda", 64 * GRANULARITY), disk("vdb", 8 * GRANULARITY + 512)];
    this.vm = { vmId: randomUUID(), name: "guest", disks };
  }

  async enable(): Promise<void> {
    await this.endpoint.enable(this.vm, this.generation);
  }

  /** To a holder that is new, unless another one's id is given. */
  succession(
    cause: LineageEntry["cause"],
    forkPointId: string | null,
    holderId?: string,
  ): Succession {
    const id = randomUUID();
    const to = successorOf(this.generation, id, { forkPointId, holderId: holderId ?? id, cause });
    return { vmId: this.vm.vmId, from: this.generation, to };
  }

  /** Blocks of one value each, on disk 0; value 0 is a range of zeroes. */
  segment(deltaId: string, segmentIndex: number, blocks: Record<number, number>): PlainSegment {
    const records = Object.entries(blocks).map(([block, value]) => ({
      offset: Number(block) * GRANULARITY,
      length: GRANULARITY,
      data: value === 0 ? null : Buffer.alloc(GRANULARITY, value),
    }));
    return { deltaId, diskIndex: 0, segmentIndex, granularity: GRANULARITY, records };
  }

  header(parts: Partial<DeltaHeader> = {}): DeltaHeader {
    this.#sequence += 1;
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
        sequence: this.#sequence,
        takenAtMs: 1_700_000_000_000 + this.#sequence * 1000,
        pauseNs: 1000,
        requestsInFlight: 0,
        consistency: "crash",
      },
      disks: this.vm.disks,
      segmentCount: 1,
      ...parts,
    };
  }

  hashRequest(pointId: string, extents: readonly number[]): BlockHashRequest {
    const { vmId } = this.vm;
    const { generation } = this;
    return { vmId, generation, pointId, diskIndex: 0, blockBytes: GRANULARITY, extents };
  }

  commit(header: DeltaHeader, digest: string): Promise<RecoveryPoint | null> {
    const { vmId, deltaId, attempt, generation } = header;
    return this.endpoint.commit({ vmId, deltaId, attempt, generation, digest });
  }

  /** A whole delta with one segment of the blocks, committed. */
  async deliver(header: DeltaHeader, blocks: Record<number, number>) {
    const segment = this.segment(header.deltaId, 0, blocks);
    await this.endpoint.openDelta(header);
    await this.endpoint.putSegment(segmentSource(segment));
    return this.commit(header, deltaDigest([segment]));
  }

  async point(parentPointId: string | null, blocks: Record<number, number>) {
    const point = await this.deliver(this.header({ parentPointId }), blocks);
    if (point === null) throw new Error("a point delta answered no point");
    return point;
  }

  /** From now on the first disk of the VM has this many blocks. */
  resize(blocks: number): void {
    const [first, ...others] = this.vm.disks;
    if (first === undefined) throw new Error("the VM has no disk");
    const disks = [{ ...first, sizeBytes: blocks * GRANULARITY }, ...others];
    this.vm = { ...this.vm, disks };
  }

  /** Null where the implementation cannot tell. */
  async sizeInBlocks(pointId: string): Promise<number | null> {
    const content = await this.#made.readPoint?.(this.vm.vmId, pointId, 0);
    return content === undefined ? null : content.byteLength / GRANULARITY;
  }

  /** Of the disks that the point has; none where the implementation cannot tell. */
  async diskSizesInBlocks(pointId: string): Promise<readonly number[]> {
    const sizes: number[] = [];
    for (let index = 0; ; index += 1) {
      const content = await this.#made
        .readPoint?.(this.vm.vmId, pointId, index)
        .catch(() => undefined);
      if (content === undefined) return sizes;
      sizes.push(content.byteLength / GRANULARITY);
    }
  }

  async headId(): Promise<string | null> {
    return (await this.endpoint.status(this.vm.vmId)).head?.pointId ?? null;
  }

  /** The block's value at a point; null where the implementation cannot tell. */
  async block(pointId: string, block: number, diskIndex = 0): Promise<number | null> {
    if (this.#made.readPoint === undefined) return null;
    const content = await this.#made.readPoint(this.vm.vmId, pointId, diskIndex);
    const bytes = content.subarray(block * GRANULARITY, (block + 1) * GRANULARITY);
    if (bytes.some((byte) => byte !== bytes[0])) throw new Error("a block of mixed content");
    return bytes[0] ?? 0;
  }

  async expectBlocks(
    t: Test,
    pointId: string,
    blocks: Record<number, number>,
    diskIndex = 0,
  ): Promise<void> {
    for (const [block, value] of Object.entries(blocks)) {
      const found = await this.block(pointId, Number(block), diskIndex);
      if (found !== null) t.equal(found, value, `block ${block} of the point`);
    }
  }
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

export async function refused(
  t: Test,
  codes: ErrorCode | readonly ErrorCode[],
  call: Promise<unknown>,
): Promise<void> {
  const expected: readonly ErrorCode[] = typeof codes === "string" ? [codes] : codes;
  const outcome = await call.then(
    () => "it was accepted",
    (error: unknown) => (error instanceof TidemarkError ? error.code : String(error)),
  );
  t.ok(expected.includes(outcome as ErrorCode), `refused with ${expected.join("/")}: ${outcome}`);
}
