/**
 * A guest that writes faster than its line carries, on the engine and the reference
 * implementations of its seams, in sizes as users have them.
 *
 * Representation: a block stands for one MiB and is 8 bytes, the number of the write
 * that made it, so that 10 GiB cost 80 KiB. Whatever counts bytes between engine and
 * tracker is scaled; the content that travels is not. The line is one queue: a segment
 * leaves it when everything before it has, and the capture's blocks are released then.
 */
import type { DiskGeometry } from "#lib/model/disk.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { ReplicationEvent } from "#lib/model/relationship.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import type { CheckpointOptions, TargetChanges, VmTracker } from "#lib/model/vm-tracker.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import type { ReplicationLimits } from "#lib/replication/replication-limits.js";
import { decodeSegment, encodeContents } from "../../contracts/segment-bytes.js";
import { Random } from "./random.js";
import { SETTINGS, VM_ID } from "./scene.js";
import { settle, VirtualClock } from "./virtual-clock.js";

export const MiB = 2 ** 20;
const BLOCK_BYTES = 8;
const SCALE = MiB / BLOCK_BYTES;
const GUEST_TICK_MS = 50;

export interface Load {
  /** Where the next block is written, of so many. */
  readonly place: (blockCount: number, random: Random, written: number) => number;
  readonly bytesPerSecond: (nowMs: number) => number;
}

export interface PressureOptions {
  readonly diskMiB: number;
  /** Changed at once, before the load begins. */
  readonly pendingMiB: number;
  readonly storeMiB: number;
  readonly lineBytesPerSecond: number;
  readonly intervalMs: number;
  readonly load: Load;
  readonly forMs: number;
  readonly limits?: Partial<ReplicationLimits>;
  /** Planted: cuts are read as the disk is by then. */
  readonly withoutCaptures?: boolean;
}

export interface PressureResult {
  /** When each recovery point was committed, and for which time it stands; from the load's begin. */
  readonly points: readonly { readonly atMs: number; readonly ofMs: number }[];
  readonly brokenCaptures: number;
  readonly pendingAtFirstMiB: number;
  /** Points that are not the disk at their cut. */
  readonly wrong: readonly string[];
  readonly lineBytes: number;
  readonly guestBytes: number;
}

export async function underPressure(options: PressureOptions): Promise<PressureResult> {
  const run = new PressureRun(options);
  try {
    return await run.result();
  } finally {
    await run.close();
  }
}

class PressureRun {
  readonly #options: PressureOptions;
  readonly #clock = new VirtualClock();
  readonly #random = new Random(1);
  readonly #replica = new MemoryReplica(decodeSegment);
  readonly #tracker: MemoryVmTracker;
  readonly #engine: ReplicationEngine;
  readonly #atCut = new Map<number, Uint8Array>();
  readonly #points: { atMs: number; ofMs: number }[] = [];
  readonly #wrong: string[] = [];
  readonly #stop = new AbortController();
  #brokenCaptures = 0;
  #lineFreeMs = 0;
  #lineBytes = 0;
  #written = 0;
  #beganMs = 0;

  constructor(options: PressureOptions) {
    this.#options = options;
    const disk: DiskGeometry = {
      diskId: "33333333-3333-4333-8333-333333333333",
      name: "vda",
      sizeBytes: options.diskMiB * BLOCK_BYTES,
      granularityBytes: BLOCK_BYTES,
    };
    this.#tracker = new MemoryVmTracker({
      disks: [disk],
      encode: encodeContents,
      nowMs: () => this.#clock.nowMs(),
      captureBudgetBytes: options.storeMiB * BLOCK_BYTES,
    });
    const take = options.withoutCaptures === true ? "drain" : "checkpoint";
    const tracker = scaled(this.#tracker, take, (changes) => this.#noteCut(changes));
    this.#engine = new ReplicationEngine({
      store: new MemoryStateStore(),
      clock: this.#clock,
      random: () => this.#random.next(),
      limits: options.limits ?? {},
      openVm: async () => ({ name: "guest", tracker }),
      cutTogether: cutTogetherInMemory,
      openReplica: () => this.#throttled(this.#replica),
    });
    this.#engine.subscribe((event) => this.#onEvent(event));
  }

  async result(): Promise<PressureResult> {
    const { diskMiB, pendingMiB, intervalMs, forMs } = this.#options;
    await this.#engine.enable({ ...SETTINGS, intervalMs });
    await this.#run(() => this.#points.length === 0);
    this.#points.length = 0;
    for (let block = 0; block < pendingMiB; block += 1) this.#write(block % diskMiB);
    const pendingAtFirstMiB = (await this.#engine.status(VM_ID)).pendingBytes / MiB;
    this.#beganMs = this.#clock.monotonicMs();
    const guest = this.#guest(this.#stop.signal).catch(() => {});
    await this.#run(() => this.#clock.monotonicMs() < this.#beganMs + forMs);
    this.#stop.abort();
    await guest;
    await this.#checkPoints();
    return {
      points: this.#points,
      brokenCaptures: this.#brokenCaptures,
      pendingAtFirstMiB,
      wrong: this.#wrong,
      lineBytes: this.#lineBytes,
      guestBytes: this.#written * MiB,
    };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const closed = this.#engine.close();
    for (let step = 0; step < 100; step += 1) {
      await settle();
      this.#clock.step();
    }
    await closed;
  }

  async #run(goesOn: () => boolean): Promise<void> {
    await settle();
    while (goesOn() && this.#clock.step()) await settle();
  }

  async #guest(signal: AbortSignal): Promise<void> {
    const { load, diskMiB } = this.#options;
    for (let owedBytes = 0; ; ) {
      await this.#clock.sleep(GUEST_TICK_MS, signal);
      const nowMs = this.#clock.monotonicMs() - this.#beganMs;
      owedBytes += (load.bytesPerSecond(nowMs) * GUEST_TICK_MS) / 1000;
      for (; owedBytes >= MiB; owedBytes -= MiB) {
        this.#write(load.place(diskMiB, this.#random, this.#written));
      }
    }
  }

  #write(block: number): void {
    this.#written += 1;
    const number = Buffer.alloc(BLOCK_BYTES);
    number.writeDoubleLE(this.#written);
    this.#tracker.write(0, block * BLOCK_BYTES, number);
  }

  /** At the instant of the cut: no write can come in between. */
  #noteCut(changes: TargetChanges): void {
    this.#atCut.set(changes.cut.sequence, this.#tracker.contentOf(0).slice());
  }

  #onEvent(event: ReplicationEvent): void {
    const atMs = this.#clock.monotonicMs() - this.#beganMs;
    if (event.type === "cycle" && event.report.pointId !== null) {
      this.#points.push({ atMs, ofMs: atMs - event.report.lagMs });
    }
    if (event.type === "error" && event.error.code === "CAPTURE_BROKEN") this.#brokenCaptures += 1;
  }

  async #checkPoints(): Promise<void> {
    for (const { pointId, sequence, cutSequence } of await this.#replica.points(VM_ID)) {
      const there = this.#replica.contentOf(VM_ID, pointId, 0);
      const expected = this.#atCut.get(cutSequence);
      if (expected !== undefined && Buffer.compare(there, expected) === 0) continue;
      this.#wrong.push(`point ${sequence} is not the disk at cut ${cutSequence}`);
    }
  }

  /** Read when its turn begins, there when its turn ends. */
  #throttled(inner: ReplicaEndpoint): ReplicaEndpoint {
    return {
      enable: (vm, generation) => inner.enable(vm, generation),
      status: (vmId) => inner.status(vmId),
      openStaging: (vmId, generation) => inner.openStaging(vmId, generation),
      openDelta: (header) => inner.openDelta(header),
      commit: (request) => inner.commit(request),
      abandon: (vmId, deltaId) => inner.abandon(vmId, deltaId),
      deleteVm: (vmId, generation) => inner.deleteVm(vmId, generation),
      takeReturned: (request) => inner.takeReturned(request),
      succeed: (succession) => inner.succeed(succession),
      points: (vmId) => inner.points(vmId),
      blockHashes: (request) => inner.blockHashes(request),
      putSegment: async (source, signal) => {
        const pieces: Uint8Array[] = [];
        for await (const piece of source.records(signal)) pieces.push(Uint8Array.from(piece));
        await this.#carry(source.plan.contentBytes * SCALE, signal);
        const records = async function* () {
          yield* pieces;
        };
        return inner.putSegment({ ...source, records });
      },
    };
  }

  async #carry(lengthBytes: number, signal: AbortSignal | undefined): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const durationMs = (lengthBytes * 1000) / this.#options.lineBytesPerSecond;
    this.#lineFreeMs = Math.max(this.#lineFreeMs, nowMs) + durationMs;
    this.#lineBytes += lengthBytes;
    await this.#clock.sleep(this.#lineFreeMs - nowMs, signal);
  }
}

function scaled(
  inner: MemoryVmTracker,
  take: "checkpoint" | "drain",
  onCut: (changes: TargetChanges) => void,
): VmTracker {
  const unscaled = (bytes: number | undefined) =>
    Math.max(BLOCK_BYTES, Math.floor((bytes ?? Number.POSITIVE_INFINITY) / SCALE));
  const options = (given: CheckpointOptions = {}): CheckpointOptions => ({
    ...given,
    segmentBytes: unscaled(given.segmentBytes ?? 8 * MiB),
    limitBytes: unscaled(given.limitBytes),
  });
  return {
    disks: inner.disks,
    hasTarget: (id) => inner.hasTarget(id),
    addTarget: (id, start, diskIds) => inner.addTarget(id, start, diskIds),
    removeTarget: (id, diskIds) => inner.removeTarget(id, diskIds),
    markAllocated: async (id) => (await inner.markAllocated(id)) * SCALE,
    compareSuspects: (id, ask, given) => inner.compareSuspects(id, ask, given),
    compareContent: (id, disk, ask, range) => inner.compareContent(id, disk, ask, range),
    markPending: (id, disk, extents) => inner.markPending(id, disk, extents),
    readMarks: (id) => inner.readMarks(id),
    addMarks: (id, marks) => inner.addMarks(id, marks),
    checkpoint: async (id, given) => {
      const changes = await inner[take](id, options(given));
      onCut(changes);
      return scaledChanges(changes);
    },
    drain: async (id, given) => scaledChanges(await inner.drain(id, options(given))),
    unstage: (id) => inner.unstage(id),
    commitInFlight: (id) => inner.commitInFlight(id),
    progress: async (id) => {
      const progress = await inner.progress(id);
      return {
        ...progress,
        pendingBytes: progress.pendingBytes * SCALE,
        inFlightBytes: progress.inFlightBytes * SCALE,
        stagedBytes: progress.stagedBytes * SCALE,
        suspectBytes: progress.suspectBytes * SCALE,
      };
    },
  };
}

function scaledChanges(inner: TargetChanges): TargetChanges {
  return {
    cut: inner.cut,
    dirtyBytes: inner.dirtyBytes * SCALE,
    segments: inner.segments,
    source: (deltaId, plan) => inner.source(deltaId, plan),
    release: (plan) => inner.release(plan),
    brokenReason: () => inner.brokenReason(),
    commit: () => inner.commit(),
    giveBack: () => inner.giveBack(),
    stage: () => inner.stage(),
  };
}
