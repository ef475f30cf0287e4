/**
 * Calls between two threads over a message port, in both directions at once.
 *
 * A call is answered exactly once, also after it was cancelled: whoever awaits
 * it knows then that the other thread holds nothing of it any more.
 */
import { TidemarkError } from "../model/errors.js";
import { type ErrorBody, fromErrorBody, toErrorBody } from "./error-body.js";

type Message =
  | { readonly kind: "call"; readonly id: number; readonly payload: unknown }
  | { readonly kind: "cancel"; readonly id: number }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly error: ErrorBody }
  | { readonly kind: "break"; readonly error: ErrorBody };

/** A Worker, a MessagePort or parentPort. */
export interface ThreadPort {
  postMessage(value: unknown): void;
  on(event: "message", listener: (message: unknown) => void): unknown;
}

interface PendingCall {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The calling end. The types of payloads and answers are the two ends' own agreement. */
export class ThreadCaller {
  readonly #port: ThreadPort;
  readonly #pending = new Map<number, PendingCall>();
  #lastId = 0;
  #failure: TidemarkError | undefined;
  #brokenBy: TidemarkError | undefined;

  constructor(port: ThreadPort) {
    this.#port = port;
    port.on("message", (message) => this.#receive(message as Message));
  }

  /** What the other thread said before it ended by a defect. */
  get brokenBy(): TidemarkError | undefined {
    return this.#brokenBy;
  }

  async call(payload: unknown, signal?: AbortSignal): Promise<unknown> {
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    this.#lastId += 1;
    const id = this.#lastId;
    const cancel = (): void => this.#port.postMessage({ kind: "cancel", id } satisfies Message);
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(id, { resolve, reject });
        this.#port.postMessage({ kind: "call", id, payload } satisfies Message);
      });
    } finally {
      this.#pending.delete(id);
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** The other thread is gone: every call, present and later, fails with this. */
  fail(error: TidemarkError): void {
    this.#failure = error;
    for (const call of this.#pending.values()) call.reject(error);
  }

  #receive(message: Message): void {
    if (message.kind === "answer") this.#pending.get(message.id)?.resolve(message.value);
    if (message.kind === "error") {
      this.#pending.get(message.id)?.reject(fromErrorBody(message.error));
    }
    if (message.kind === "break") this.#brokenBy = fromErrorBody(message.error);
  }
}

export type ThreadCallHandler = (payload: unknown, signal: AbortSignal) => Promise<unknown>;

/** The last word of a thread that ends by a defect. */
export function announceBreak(port: ThreadPort, cause: unknown): void {
  port.postMessage({ kind: "break", error: toErrorBody(cause) } satisfies Message);
}

/** The answering end. The function that it returns cancels what is running. */
export function answerThreadCalls(port: ThreadPort, handle: ThreadCallHandler): () => void {
  const running = new Map<number, AbortController>();
  const answer = async (id: number, payload: unknown): Promise<void> => {
    const controller = new AbortController();
    running.set(id, controller);
    try {
      const value = await handle(payload, controller.signal);
      port.postMessage({ kind: "answer", id, value } satisfies Message);
    } catch (thrown) {
      port.postMessage({ kind: "error", id, error: toErrorBody(thrown) } satisfies Message);
    } finally {
      running.delete(id);
    }
  };
  port.on("message", (raw) => {
    const message = raw as Message;
    if (message.kind === "call") void answer(message.id, message.payload);
    if (message.kind === "cancel") running.get(message.id)?.abort(cancelled());
  });
  return () => {
    for (const controller of running.values()) controller.abort(cancelled());
  };
}

function cancelled(): TidemarkError {
  return new TidemarkError("CANCELLED", "Cannot go on: because the caller stopped it.");
}
