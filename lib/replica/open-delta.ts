import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { DeltaHeader, SegmentReceipt } from "../model/delta.js";
import { deltaDigest } from "../model/delta-digest.js";
import { TidemarkError } from "../model/errors.js";
import type { SegmentRequest, SegmentSlot } from "../model/segment-receiver.js";
import { type DeltaDocument, SEGMENT_DOCUMENT, type SegmentDocument } from "./documents.js";
import { readDocument } from "./durable-document.js";
import type { SegmentPlace } from "./layer-segment-sink.js";
import type { StoreFiles } from "./store-files.js";
import { segmentFileName } from "./store-paths.js";

/** Where the data area of a layer begins (native/layers/layer.h). */
const LAYER_DATA_OFFSET_BYTES = 4096;
const SMALLEST_ALIGNMENT_BYTES = 4096;
/** A segment is tens of MiB; a claim beyond this is a mistake or an attack. */
const LARGEST_SEGMENT_BYTES = 1 << 30;

/** A sink that may still write; by its slot's id. */
interface Arrival {
  readonly arrival: number;
  readonly attempt: number;
}

interface StoredSegment {
  readonly receipt: SegmentReceipt;
  readonly arrival: number;
}

/**
 * A delta attempt on its way in. The segments' regions are handed out from one
 * cursor for all disks, since only the stream says which disk a segment is of:
 * each disk's layer file is sparse where the others' segments lie.
 *
 * In memory is only what the main thread decides on; the segments' indexes stay
 * in their files until the commit.
 */
export class OpenDelta {
  readonly openingId: string;
  readonly order: number;
  readonly directory: string;
  #header: DeltaHeader;
  readonly #alignmentBytes: number;
  readonly #segments = new Map<number, StoredSegment>();
  readonly #underWay = new Map<string, Arrival>();
  readonly #quietWaiters = new Set<() => void>();
  #nextArrival = 1;
  #nextRegionOffsetBytes: number;
  #state: "open" | "sealing" | "superseded" = "open";

  constructor(document: DeltaDocument, directory: string) {
    const { openingId, header, order } = document;
    this.openingId = openingId;
    this.order = order;
    this.directory = directory;
    this.#header = header;
    const granularities = header.disks.map((disk) => disk.granularityBytes);
    this.#alignmentBytes = Math.max(SMALLEST_ALIGNMENT_BYTES, ...granularities);
    this.#nextRegionOffsetBytes = this.#align(LAYER_DATA_OFFSET_BYTES);
  }

  get header(): DeltaHeader {
    return this.#header;
  }

  /** A later attempt of the same delta: what is durable stays, what is on its way is refused. */
  raiseAttempt(header: DeltaHeader): void {
    this.#header = header;
  }

  /** Finds out, after a restart, which segments are durable. */
  async loadSegments(files: StoreFiles): Promise<void> {
    for (const name of await files.list(this.directory)) {
      const match = /^segment-([0-9]{8})-([0-9]{8})\.json$/.exec(name);
      if (match === null) continue;
      const arrival = Number(match[2]);
      this.#nextArrival = Math.max(this.#nextArrival, arrival + 1);
      const document = await readSegment(files, join(this.directory, name));
      if (document !== null) this.#restore(document, arrival);
    }
  }

  receipts(): readonly SegmentReceipt[] {
    return [...this.#segments.values()]
      .map((segment) => segment.receipt)
      .sort((a, b) => a.segmentIndex - b.segmentIndex);
  }

  reserve(request: SegmentRequest): SegmentSlot {
    this.#refuseUnlessOpen(request.segmentIndex);
    checkRequest(request, this.header);
    const slotId = randomUUID();
    const place: SegmentPlace = {
      deltaId: this.header.deltaId,
      segmentIndex: request.segmentIndex,
      arrival: this.#nextArrival,
      directory: this.directory,
      regionOffsetBytes: this.#nextRegionOffsetBytes,
      capacityBytes: this.#align(request.contentBytes),
      digest: request.digest,
      disks: this.header.disks.map(({ sizeBytes, granularityBytes }) => ({
        sizeBytes,
        granularityBytes,
      })),
    };
    this.#nextArrival += 1;
    this.#nextRegionOffsetBytes += place.capacityBytes;
    this.#underWay.set(slotId, { arrival: place.arrival, attempt: request.attempt });
    return { slotId, place };
  }

  complete(slotId: string, receipt: SegmentReceipt): void {
    const slot = this.#underWay.get(slotId);
    this.release(slotId);
    if (slot?.attempt !== this.header.attempt || this.#state === "superseded") {
      throw this.#notOpen(receipt.segmentIndex);
    }
    this.#store({ receipt, arrival: slot.arrival });
  }

  /** The slot's sink will not write any more. */
  release(slotId: string): void {
    this.#underWay.delete(slotId);
    if (this.#underWay.size > 0) return;
    for (const waiter of this.#quietWaiters) waiter();
    this.#quietWaiters.clear();
  }

  /** Its segments are refused from now on. */
  supersede(): void {
    this.#state = "superseded";
  }

  /** After a restart: some of its layers are sealed already, so that nothing may be added. */
  resumeSealing(): void {
    this.#state = "sealing";
  }

  get isQuiet(): boolean {
    return this.#underWay.size === 0;
  }

  /** Resolves when no sink writes to it any more. */
  quiet(): Promise<void> {
    if (this.isQuiet) return Promise.resolve();
    return new Promise((resolve) => {
      this.#quietWaiters.add(resolve);
    });
  }

  /**
   * No segment may arrive once the layers are being sealed: a late one would
   * write behind the index. TIMED_OUT when one keeps coming.
   */
  async beginSealing(limitMs: number): Promise<void> {
    if (this.#state === "superseded") throw this.#notOpen(0);
    this.#state = "sealing";
    let timer: NodeJS.Timeout | undefined;
    const timedOut = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, limitMs, "late");
    });
    const outcome = await Promise.race([this.quiet(), timedOut]);
    clearTimeout(timer);
    if (outcome === "late") {
      throw new TidemarkError(
        "TIMED_OUT",
        `Cannot commit delta ${this.header.deltaId}: because a segment is still arriving after ${limitMs} ms.`,
      );
    }
  }

  receiptOf(segmentIndex: number): SegmentReceipt | null {
    return this.#segments.get(segmentIndex)?.receipt ?? null;
  }

  missingSegmentCount(): number {
    return this.header.segmentCount - this.#segments.size;
  }

  digest(): string {
    return deltaDigest(this.receipts());
  }

  /** The records of the segments that count, in the order of their indexes. */
  segmentFiles(): readonly string[] {
    return [...this.#segments.values()]
      .sort((a, b) => a.receipt.segmentIndex - b.receipt.segmentIndex)
      .map(({ receipt, arrival }) =>
        join(this.directory, segmentFileName(receipt.segmentIndex, arrival)),
      );
  }

  #restore(document: SegmentDocument, arrival: number): void {
    const endBytes = document.regionOffsetBytes + document.capacityBytes;
    this.#nextRegionOffsetBytes = Math.max(this.#nextRegionOffsetBytes, this.#align(endBytes));
    if (document.deltaId !== this.header.deltaId) return;
    this.#store({ receipt: { ...document.receipt, wireBytes: document.recordBytes }, arrival });
  }

  /** Of two arrivals of a segment the later counts, in memory as after a restart. */
  #store(segment: StoredSegment): void {
    const present = this.#segments.get(segment.receipt.segmentIndex);
    if (present !== undefined && present.arrival > segment.arrival) return;
    this.#segments.set(segment.receipt.segmentIndex, segment);
  }

  #align(bytes: number): number {
    return Math.ceil(bytes / this.#alignmentBytes) * this.#alignmentBytes;
  }

  #refuseUnlessOpen(segmentIndex: number): void {
    if (this.#state === "superseded") throw this.#notOpen(segmentIndex);
    if (this.#state === "sealing") {
      throw new TidemarkError(
        "CONFLICT",
        `Cannot receive segment ${segmentIndex}: because delta ${this.header.deltaId} is being committed.`,
      );
    }
  }

  #notOpen(segmentIndex: number): TidemarkError {
    return deltaNotOpen(this.header.deltaId, this.header.attempt, segmentIndex);
  }
}

export function deltaNotOpen(deltaId: string, attempt: number, segmentIndex?: number) {
  const what = segmentIndex === undefined ? "use" : `receive segment ${segmentIndex} of`;
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot ${what} delta ${deltaId}: because attempt ${attempt} of it is not open.`,
  );
}

function checkRequest(request: SegmentRequest, header: DeltaHeader): void {
  const { segmentIndex, contentBytes } = request;
  const isIndex = Number.isSafeInteger(segmentIndex) && segmentIndex >= 0;
  if (!isIndex || segmentIndex >= header.segmentCount) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot receive segment ${segmentIndex}: because the delta has ${header.segmentCount}.`,
    );
  }
  const isLength = Number.isSafeInteger(contentBytes) && contentBytes >= 0;
  if (!isLength || contentBytes > LARGEST_SEGMENT_BYTES) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot receive segment ${segmentIndex}: because its content length ${contentBytes} is not from 0 to ${LARGEST_SEGMENT_BYTES}.`,
    );
  }
}

/** Null for one that was not whole: the segment is sent again. */
async function readSegment(files: StoreFiles, path: string): Promise<SegmentDocument | null> {
  try {
    return await readDocument(files, SEGMENT_DOCUMENT, path);
  } catch (thrown) {
    if (thrown instanceof TidemarkError && thrown.code !== "IO_ERROR") return null;
    throw thrown;
  }
}
