import { TidemarkError } from "../model/errors.js";
import type { ProbeJob, SegmentJob } from "./segment-job.js";
import type { LaneCall } from "./lane.js";
import type { SegmentSender, SentSegment } from "./segment-sender.js";
import { WorkerHandle } from "./worker-handle.js";

export interface LanePoolOptions {
  /** The compiled entry file that calls runLane(). */
  readonly workerUrl: URL;
  /** Threads; started when there is something to send. Default 2. */
  readonly laneCount?: number;
  /**
   * That one lane has under way at once, so that it reads and compresses the
   * next while the replica makes the last durable. Default 2.
   */
  readonly segmentsPerLane?: number;
}

interface Lane {
  readonly thread: WorkerHandle;
  busyCount: number;
}

/**
 * Worker threads that read, compress and send segments; one pool a host. A
 * segment that finds all lanes busy waits its turn.
 */
export class LanePool implements SegmentSender {
  readonly #workerUrl: URL;
  readonly #laneCount: number;
  readonly #segmentsPerLane: number;
  readonly #lanes = new Set<Lane>();
  readonly #waiting = new Set<() => void>();
  #closed = false;

  constructor(options: LanePoolOptions) {
    this.#workerUrl = options.workerUrl;
    this.#laneCount = options.laneCount ?? 2;
    this.#segmentsPerLane = options.segmentsPerLane ?? 2;
  }

  get laneCount(): number {
    return this.#lanes.size;
  }

  /**
   * Resolves when the segment is durable at the replica. After a rejection,
   * CANCELLED included, the lane holds nothing of the segment any more.
   */
  send(job: SegmentJob, signal?: AbortSignal): Promise<SentSegment> {
    return this.#call({ op: "send", job }, signal);
  }

  /** As send(), but nothing is kept of it. */
  probe(job: ProbeJob, signal?: AbortSignal): Promise<SentSegment> {
    return this.#call({ op: "probe", job }, signal);
  }

  async #call(call: LaneCall, signal?: AbortSignal): Promise<SentSegment> {
    const lane = await this.#acquire(signal);
    try {
      return (await lane.thread.caller.call(call, signal)) as SentSegment;
    } catch (thrown) {
      throw this.#closed ? closed() : thrown;
    } finally {
      lane.busyCount -= 1;
      this.#wakeNext();
    }
  }

  /** What is under way is rejected with CLOSED. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting) wake();
    const call: LaneCall = { op: "close" };
    await Promise.all([...this.#lanes].map((lane) => lane.thread.close(call)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A lane with room, its place in it taken. */
  async #acquire(signal: AbortSignal | undefined): Promise<Lane> {
    for (;;) {
      if (this.#closed || signal?.aborted === true) {
        // The turn that was given to this one is the next one's.
        this.#wakeNext();
        throw this.#closed ? closed() : signal?.reason;
      }
      const lane = this.#roomiest();
      if (lane !== undefined) {
        lane.busyCount += 1;
        return lane;
      }
      await this.#turn(signal);
    }
  }

  #roomiest(): Lane | undefined {
    const [best] = [...this.#lanes].sort((left, right) => left.busyCount - right.busyCount);
    if (best?.busyCount === 0) return best;
    if (this.#lanes.size < this.#laneCount) return this.#start();
    return best !== undefined && best.busyCount < this.#segmentsPerLane ? best : undefined;
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }

  #wakeNext(): void {
    const [next] = this.#waiting;
    next?.();
  }

  #start(): Lane {
    const thread = new WorkerHandle(this.#workerUrl, (cause) => {
      this.#lanes.delete(lane);
      return this.#closed ? closed() : lost(cause);
    });
    const lane: Lane = { thread, busyCount: 0 };
    this.#lanes.add(lane);
    return lane;
  }
}

/** The next segment starts another lane. */
function lost(cause: Error | undefined): TidemarkError {
  const reason = cause?.message ?? "its thread ended";
  return new TidemarkError("INTERNAL", `Cannot send a segment: because a lane broke (${reason}).`, {
    retryable: true,
    hint: "It is sent again; report this.",
    cause,
  });
}

function closed(): TidemarkError {
  return new TidemarkError("CLOSED", "Cannot send a segment: because the lanes are closed.");
}
