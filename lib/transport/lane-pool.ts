import { Worker } from "node:worker_threads";
import type { SegmentReceipt } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import type { SegmentJob } from "./segment-job.js";
import { ThreadCaller } from "./thread-calls.js";

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
  readonly worker: Worker;
  readonly caller: ThreadCaller;
  busyCount: number;
}

/**
 * Worker threads that read, compress and send segments; one pool a host. A
 * segment that finds all lanes busy waits its turn.
 */
export class LanePool {
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
  async send(job: SegmentJob, signal?: AbortSignal): Promise<SegmentReceipt> {
    const lane = await this.#acquire(signal);
    try {
      return (await lane.caller.call(job, signal)) as SegmentReceipt;
    } finally {
      lane.busyCount -= 1;
      this.#wakeNext();
    }
  }

  /** What is under way is rejected with CLOSED. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting) wake();
    for (const lane of this.#lanes) lane.caller.fail(closed());
    await Promise.all([...this.#lanes].map((lane) => lane.worker.terminate()));
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
    const worker = new Worker(this.#workerUrl);
    const lane: Lane = { worker, caller: new ThreadCaller(worker), busyCount: 0 };
    this.#lanes.add(lane);
    const lose = (cause: unknown): void => {
      this.#lanes.delete(lane);
      lane.caller.fail(this.#closed ? closed() : lost(cause));
    };
    worker.once("error", lose);
    worker.once("exit", () => lose(undefined));
    return lane;
  }
}

/** The next segment starts another lane. */
function lost(cause: unknown): TidemarkError {
  const reason = cause instanceof Error ? cause.message : "its thread ended";
  return new TidemarkError("INTERNAL", `Cannot send a segment: because a lane broke (${reason}).`, {
    retryable: true,
    hint: "It is sent again; report this.",
    cause,
  });
}

function closed(): TidemarkError {
  return new TidemarkError("CLOSED", "Cannot send a segment: because the lanes are closed.");
}
