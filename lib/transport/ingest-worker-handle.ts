import { Worker } from "node:worker_threads";
import { TidemarkError } from "../model/errors.js";
import type { PeerIdentity } from "../model/peer.js";
import type { SegmentSlot } from "../model/segment-receiver.js";
import type { MainCall, WorkerCall } from "./ingest-call.js";
import { dispatchControl, type PeerReplica } from "./peer-dispatch.js";
import { answerThreadCalls, ThreadCaller } from "./thread-calls.js";

export interface IngestWorkerOptions {
  readonly workerUrl: URL;
  readonly replicaFor: (peer: PeerIdentity) => PeerReplica;
  readonly onWarning: (message: string) => void;
  /** The thread ended without being asked to. */
  readonly onLost: (worker: IngestWorkerHandle, cause: unknown) => void;
}

/**
 * One ingest thread as the main thread sees it. The slots that it was given are
 * remembered, so that they are given up when the thread is lost.
 */
export class IngestWorkerHandle {
  readonly #options: IngestWorkerOptions;
  readonly #worker: Worker;
  readonly #caller: ThreadCaller;
  readonly #slots = new Map<string, { replica: PeerReplica; slot: SegmentSlot }>();
  readonly #ended = new AbortController();
  #closing = false;

  constructor(options: IngestWorkerOptions) {
    this.#options = options;
    this.#worker = new Worker(options.workerUrl);
    this.#caller = new ThreadCaller(this.#worker);
    answerThreadCalls(this.#worker, (payload) => this.#answer(payload as MainCall));
    let cause: unknown;
    this.#worker.once("error", (error) => {
      cause = error;
    });
    this.#worker.once("exit", () => void this.#exited(cause));
  }

  /** Answers the port. */
  async listen(call: Extract<WorkerCall, { op: "listen" }>): Promise<number> {
    return (await this.#caller.call(call)) as number;
  }

  async renew(call: Extract<WorkerCall, { op: "renew" }>): Promise<void> {
    await this.#caller.call(call);
  }

  async close(): Promise<void> {
    this.#closing = true;
    const call: WorkerCall = { op: "close" };
    await this.#caller.call(call).catch(() => undefined);
    await this.#worker.terminate();
    await this.#giveUpSlots();
  }

  async #answer(call: MainCall): Promise<unknown> {
    if (call.op === "warn") return this.#options.onWarning(call.message);
    const replica = this.#options.replicaFor(call.peer);
    switch (call.op) {
      case "control":
        return dispatchControl(replica, call.route, call.args, this.#ended.signal);
      case "reserve": {
        const slot = await replica.reserveSegment(call.request);
        this.#slots.set(slot.slotId, { replica, slot });
        if (this.#ended.signal.aborted) await this.#giveUpSlots();
        return slot;
      }
      case "complete":
        await replica.completeSegment(call.slot, call.receipt);
        this.#slots.delete(call.slot.slotId);
        return undefined;
      case "abort":
        this.#slots.delete(call.slot.slotId);
        return replica.abortSegment(call.slot);
    }
  }

  async #exited(cause: unknown): Promise<void> {
    const reason = cause instanceof Error ? cause.message : "it was closed";
    const error = new TidemarkError(
      "CLOSED",
      `Cannot receive: because an ingest thread ended (${reason}).`,
      { cause },
    );
    this.#caller.fail(error);
    this.#ended.abort(error);
    await this.#giveUpSlots();
    if (!this.#closing) this.#options.onLost(this, cause);
  }

  async #giveUpSlots(): Promise<void> {
    const abandoned = [...this.#slots.values()];
    this.#slots.clear();
    await Promise.allSettled(abandoned.map(({ replica, slot }) => replica.abortSegment(slot)));
  }
}
