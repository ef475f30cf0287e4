import { TidemarkError } from "../model/errors.js";
import type { SegmentSlot } from "../model/segment-receiver.js";
import type { MainCall, WorkerCall } from "./ingest-call.js";
import { type Greeter, hello } from "./hello.js";
import { dispatchControl, type PeerReplica } from "./peer-dispatch.js";
import { answerThreadCalls } from "./thread-calls.js";
import { WorkerHandle } from "./worker-handle.js";

export interface IngestWorkerOptions extends Greeter {
  readonly workerUrl: URL;
  readonly onWarning: (message: string) => void;
  /** The thread ended without being asked to. */
  readonly onLost: (worker: IngestWorkerHandle, cause: TidemarkError) => void;
}

/**
 * One ingest thread as the main thread sees it. The slots that it was given are
 * remembered, so that they are given up when the thread is lost.
 */
export class IngestWorkerHandle {
  readonly #options: IngestWorkerOptions;
  readonly #thread: WorkerHandle;
  readonly #slots = new Map<string, { replica: PeerReplica; slot: SegmentSlot }>();
  readonly #ended = new AbortController();
  #closing = false;

  constructor(options: IngestWorkerOptions) {
    this.#options = options;
    this.#thread = new WorkerHandle(options.workerUrl, (cause) => this.#exited(cause));
    answerThreadCalls(this.#thread.worker, (payload) => this.#answer(payload as MainCall));
  }

  /** Answers the port. */
  async listen(call: Extract<WorkerCall, { op: "listen" }>): Promise<number> {
    return (await this.#thread.caller.call(call)) as number;
  }

  async renew(call: Extract<WorkerCall, { op: "renew" }>): Promise<void> {
    await this.#thread.caller.call(call);
  }

  async close(): Promise<void> {
    this.#closing = true;
    const call: WorkerCall = { op: "close" };
    await this.#thread.close(call);
    await this.#giveUpSlots();
  }

  async #answer(call: MainCall): Promise<unknown> {
    if (call.op === "warn") return this.#options.onWarning(call.message);
    if (call.op === "control") return this.#control(call);
    const replica = this.#options.replicaFor(call.peer);
    switch (call.op) {
      case "admit":
        return undefined;
      case "reserve": {
        this.#options.onContact?.(call.request.vmId);
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

  async #control({ peer, route, args }: Extract<MainCall, { op: "control" }>): Promise<unknown> {
    if (route === "hello") return hello(this.#options, peer);
    const replica = this.#options.replicaFor(peer);
    if ("vmId" in args) this.#options.onContact?.(String(args.vmId));
    return dispatchControl(replica, route, args, this.#ended.signal);
  }

  #exited(cause: Error | undefined): TidemarkError {
    const reason = cause?.message ?? "it was closed";
    const error = new TidemarkError(
      "CLOSED",
      `Cannot receive: because an ingest thread ended (${reason}).`,
      { cause },
    );
    this.#ended.abort(error);
    void this.#giveUpSlots();
    if (!this.#closing) this.#options.onLost(this, error);
    return error;
  }

  async #giveUpSlots(): Promise<void> {
    const abandoned = [...this.#slots.values()];
    this.#slots.clear();
    await Promise.allSettled(abandoned.map(({ replica, slot }) => replica.abortSegment(slot)));
  }
}
