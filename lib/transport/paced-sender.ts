import type { Clock } from "../model/clock.js";
import { Flow } from "../model/fair-queue.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import { burstBytes } from "./token-bucket.js";
import type { ProbeJob, SegmentJob } from "./segment-job.js";
import type { SegmentSender, SentSegment } from "./segment-sender.js";
import { type Permit, TransferTurns } from "./transfer-turns.js";

/** What a segment's content can take on the wire: record headers, and zstd's where nothing compresses. */
const WIRE_FACTOR = 1.02;
const WIRE_EXTRA_BYTES = 4096;
/** Not below the coarsest granularity. */
const SEGMENT_STEP_BYTES = 256 * 1024;

export interface PacedSenderParts {
  readonly inner: SegmentSender;
  readonly clock: Clock;
  /** All relationships of the host share its bytes a second. */
  readonly host: TransferTurns;
  /** Those with this replica share its places. */
  readonly places: TransferTurns;
  readonly hostBytesPerSecond: () => number | null;
  readonly bytesPerSecond: () => number | null;
  readonly settings: () => Pick<RelationshipSettings, "priority">;
}

/**
 * One relationship's segments, held back by its own throttle and then by what it shares.
 * Who waits here holds neither a lane nor a connection.
 */
export class PacedSender implements SegmentSender {
  readonly #parts: PacedSenderParts;
  readonly #hostFlow: Flow;
  readonly #placeFlow: Flow;
  readonly #own: TransferTurns;

  constructor(parts: PacedSenderParts) {
    const { clock, bytesPerSecond, settings } = parts;
    this.#parts = parts;
    this.#hostFlow = new Flow(() => settings().priority);
    this.#placeFlow = new Flow(() => settings().priority);
    this.#own = new TransferTurns(clock, {
      bytesPerSecond,
      parallelCount: () => Number.POSITIVE_INFINITY,
    });
  }

  /** So that a segment fits into a burst. */
  largestSegmentBytes(): number {
    const { bytesPerSecond, hostBytesPerSecond } = this.#parts;
    const rates = [bytesPerSecond(), hostBytesPerSecond()].filter((rate) => rate !== null);
    if (rates.length === 0) return Number.POSITIVE_INFINITY;
    const contentBytes = (burstBytes(Math.min(...rates)) - WIRE_EXTRA_BYTES) / WIRE_FACTOR;
    return Math.max(1, Math.floor(contentBytes / SEGMENT_STEP_BYTES)) * SEGMENT_STEP_BYTES;
  }

  /** Measures the line, not the throttle. */
  probe(job: ProbeJob, signal?: AbortSignal): Promise<SentSegment> {
    return this.#parts.inner.probe(job, signal);
  }

  async send(job: SegmentJob, signal?: AbortSignal): Promise<SentSegment> {
    const { inner, clock } = this.#parts;
    const mostBytes = Math.ceil(job.plan.contentBytes * WIRE_FACTOR) + WIRE_EXTRA_BYTES;
    const beganMs = clock.monotonicMs();
    const permits = await this.#admit(mostBytes, signal);
    const waitedMs = clock.monotonicMs() - beganMs;
    // What of a failed transfer has travelled nobody knows: it counts as all of it.
    let sentBytes = mostBytes;
    try {
      const sent = await inner.send(job, signal);
      sentBytes = sent.receipt.wireBytes;
      return { ...sent, lineMs: sent.lineMs + waitedMs };
    } finally {
      settleAll(permits, sentBytes);
    }
  }

  /** A place is taken last but for the host's bytes, which all who have one wait for alike. */
  async #admit(mostBytes: number, signal?: AbortSignal): Promise<readonly Permit[]> {
    const { host, places } = this.#parts;
    const permits: Permit[] = [];
    try {
      permits.push(await this.#own.admit(new Flow(() => "normal"), mostBytes, signal));
      permits.push(await places.admit(this.#placeFlow, mostBytes, signal));
      permits.push(await host.admit(this.#hostFlow, mostBytes, signal));
      return permits;
    } catch (thrown) {
      settleAll(permits, 0);
      throw thrown;
    }
  }
}

function settleAll(permits: readonly Permit[], sentBytes: number): void {
  for (const permit of permits) permit.settle(sentBytes);
}
