/** Two hosts on loopback for tests of the network: certificates, a server, a client. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DeltaHeader, SegmentPlan, SegmentReceipt, SegmentSource } from "#lib/model/delta.js";
import { TidemarkError } from "#lib/model/errors.js";
import type { TlsMaterial } from "#lib/model/peer.js";
import type { ReplicaVmStatus } from "#lib/model/replica-endpoint.js";
import type { SegmentRequest, SegmentSlot } from "#lib/model/segment-receiver.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { loadTlsIdentity } from "#lib/security/tls-identity.js";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import { LanePool } from "#lib/transport/lane-pool.js";
import type { PeerReplica } from "#lib/transport/peer-dispatch.js";
import { PeerServer, type PeerServerOptions } from "#lib/transport/peer-server.js";

export const LANE_WORKER = new URL("./lane-worker.mjs", import.meta.url);
export const INGEST_WORKER = new URL("./ingest-worker.mjs", import.meta.url);

export interface TestPki {
  readonly directory: string;
  readonly caDirectory: string;
  readonly primary: TlsMaterial;
  readonly replica: TlsMaterial;
  remove(): Promise<void>;
}

export async function testPki(): Promise<TestPki> {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-hosts-"));
  const caDirectory = join(directory, "ca");
  await createCa(caDirectory);
  const issue = async (name: string): Promise<TlsMaterial> => {
    const files = await issueCertificate(caDirectory, [`${name}.example`, "127.0.0.1"], {
      outputDirectory: join(directory, name),
    });
    return (await loadTlsIdentity(files)).material;
  };
  return {
    directory,
    caDirectory,
    primary: await issue("primary"),
    replica: await issue("replica"),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

export function startServer(
  pki: TestPki,
  replica: PeerReplica,
  options: Partial<PeerServerOptions> = {},
): Promise<PeerServer> {
  return PeerServer.start({
    workerUrl: INGEST_WORKER,
    host: "127.0.0.1",
    port: 0,
    tls: pki.replica,
    replicaFor: () => replica,
    ...options,
  });
}

export function newLanes(laneCount = 2, segmentsPerLane = 2): LanePool {
  return new LanePool({ workerUrl: LANE_WORKER, laneCount, segmentsPerLane });
}

export function connectTo(
  server: PeerServer,
  pki: TestPki,
  lanes: LanePool,
  options: { readonly idleTimeoutMs?: number; readonly tls?: TlsMaterial } = {},
): HttpsReplicaEndpoint {
  const tls = options.tls ?? pki.primary;
  return new HttpsReplicaEndpoint({
    ...options,
    replicaUrl: `https://127.0.0.1:${server.port}`,
    tls: () => tls,
    lanes,
  });
}

/** Sends what the test's own sources hold: their bytes travel to the lane inside the plan. */
export class CarryingEndpoint extends HttpsReplicaEndpoint {
  override async putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt> {
    const pieces: Uint8Array[] = [];
    for await (const piece of source.records(signal)) pieces.push(Uint8Array.from(piece));
    return super.putSegment(withTest(source.deltaId, source.plan, { pieces }), signal);
  }
}

export interface Recipe {
  readonly seed: number;
  readonly pieceBytes: number;
  readonly pieceCount: number;
  readonly compressible?: boolean;
  readonly delayMs?: number;
  readonly dieAtPiece?: number;
  readonly failAtPiece?: number;
  /** BigInt64: [bytes read]. */
  readonly counter?: SharedArrayBuffer;
}

export function generatedSource(
  deltaId: string,
  segmentIndex: number,
  recipe: Recipe,
  contentBytes = recipe.pieceBytes * recipe.pieceCount,
): SegmentSource {
  const plan: SegmentPlan = {
    segmentIndex,
    diskIndex: 0,
    extents: Float64Array.of(0, contentBytes),
    contentBytes,
    granularityBytes: 4096,
    captureId: 0,
  };
  return withTest(deltaId, plan, { recipe });
}

function withTest(deltaId: string, plan: SegmentPlan, test: object): SegmentSource {
  return {
    deltaId,
    plan: { ...plan, test } as SegmentPlan,
    // Lanes read in their own thread.
    records: () => {
      throw new Error("records() was called in the main thread");
    },
  };
}

/** A replica that keeps no bytes: its sinks hash and count, and do as `place` says. */
export class HashingReplica implements PeerReplica {
  readonly counters = new SharedArrayBuffer(32);
  readonly reserved: SegmentRequest[] = [];
  readonly completed = new Map<number, SegmentReceipt>();
  readonly aborted: string[] = [];
  readonly openSlots = new Set<string>();
  /** Added to each slot's place. */
  place: Record<string, unknown> = {};
  header: DeltaHeader | undefined;

  constructor() {
    this.openGate();
  }

  get writtenBytes(): number {
    return Number(Atomics.load(new BigInt64Array(this.counters), 0));
  }

  get abortedSinkCount(): number {
    return Number(Atomics.load(new BigInt64Array(this.counters), 1));
  }

  /** How many ingest threads have written. */
  get threadCount(): number {
    const mask = Atomics.load(new BigInt64Array(this.counters), 3);
    return mask.toString(2).replaceAll("0", "").length;
  }

  openGate(): void {
    Atomics.store(new BigInt64Array(this.counters), 2, 1n);
  }

  /** Sinks wait in write() until the gate is open. */
  closeGate(): void {
    Atomics.store(new BigInt64Array(this.counters), 2, 0n);
  }

  async reserveSegment(request: SegmentRequest): Promise<SegmentSlot> {
    if (request.deltaId !== this.header?.deltaId) throw notOpen();
    this.reserved.push(request);
    const slotId = randomUUID();
    this.openSlots.add(slotId);
    const { segmentIndex, digest } = request;
    const place = { hashing: true, counters: this.counters, segmentIndex, digest, ...this.place };
    return { slotId, place };
  }

  async completeSegment(slot: SegmentSlot, receipt: SegmentReceipt): Promise<void> {
    this.openSlots.delete(slot.slotId);
    this.completed.set(receipt.segmentIndex, receipt);
  }

  async abortSegment(slot: SegmentSlot): Promise<void> {
    this.openSlots.delete(slot.slotId);
    this.aborted.push(slot.slotId);
  }

  async openDelta(header: DeltaHeader): Promise<readonly SegmentReceipt[]> {
    this.header = header;
    return [...this.completed.values()];
  }

  async status(vmId: string): Promise<ReplicaVmStatus> {
    if (this.header?.vmId !== vmId) throw notOpen();
    const { generation, disks } = this.header;
    return {
      vm: { vmId, name: "guest", disks },
      generation,
      head: null,
      pointCount: 0,
      stagingSessionId: null,
      storedBytes: this.writtenBytes,
    };
  }

  enable(): never {
    throw notOpen();
  }

  blockHashes(): never {
    throw notOpen();
  }

  openStaging(): never {
    throw notOpen();
  }

  async commit(): Promise<null> {
    return null;
  }

  async abandon(): Promise<void> {
    this.header = undefined;
  }

  async deleteVm(): Promise<void> {
    this.header = undefined;
  }

  async succeed(): Promise<never> {
    throw new Error("nothing is handed over here");
  }

  async takeReturned(): Promise<never> {
    throw new Error("nothing is given back here");
  }

  async points(): Promise<never[]> {
    return [];
  }
}

function notOpen(): TidemarkError {
  return new TidemarkError("NOT_FOUND", "Cannot go on: because it is not open.", {
    hint: "Open it.",
  });
}

export function newHeader(segmentCount = 1): DeltaHeader {
  return {
    formatVersion: 1,
    deltaId: randomUUID(),
    attempt: 1,
    kind: "point",
    vmId: randomUUID(),
    generation: { number: 1, id: randomUUID() },
    parentPointId: null,
    stagingSessionId: null,
    cut: {
      sequence: 1,
      takenAtMs: 1_700_000_000_000,
      pauseNs: 0,
      requestsInFlight: 0,
      consistency: "crash",
    },
    disks: [{ diskId: randomUUID(), name: "vda", sizeBytes: 2 ** 40, granularityBytes: 4096 }],
    segmentCount,
  };
}

/** Waits for what must come; a test that waits in vain ends by the runner's own limit. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
}
