import type { ClientRequest, IncomingMessage } from "node:http";
import { TidemarkError } from "../model/errors.js";
import { errorBodySchema, fromErrorBody } from "./error-body.js";
import { readText } from "./message-body.js";

/**
 * One request on its way: its answer, and whether there is use in sending more.
 * Aborting the signal destroys the request; then the answer rejects.
 */
export class HttpExchange {
  readonly request: ClientRequest;
  readonly #idleTimeoutMs: number;
  /** Its head, which may come before the request's end. */
  readonly #answer: Promise<IncomingMessage>;
  #answered = false;
  #whole = false;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(request: ClientRequest, idleTimeoutMs: number, signal: AbortSignal | undefined) {
    this.request = request;
    this.#idleTimeoutMs = idleTimeoutMs;
    const cancel = (): void => void request.destroy(signal?.reason as Error);
    this.#answer = new Promise((resolve, reject) => {
      request.once("response", (message) => {
        this.#answered = true;
        this.#wake?.();
        resolve(message);
      });
      request.on("error", reject);
      request.once("close", () => {
        this.#ended = true;
        this.#wake?.();
        signal?.removeEventListener("abort", cancel);
        reject(Object.assign(new Error("closed without an answer"), { code: "ECONNRESET" }));
      });
    });
    // Who sends a body looks at the answer only when that is done.
    this.#answer.catch(() => undefined);
    request.on("drain", () => this.#wake?.());
    request.setNoDelay(true);
    request.setTimeout(idleTimeoutMs, () => request.destroy(silent(idleTimeoutMs)));
    if (signal?.aborted === true) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
  }

  /** False once there is no use in sending more: the answer is there, or the connection is gone. */
  get wantsBody(): boolean {
    return !this.#answered && !this.#ended;
  }

  /**
   * Resolves when there is room for more, or no use in more. `onTaken` is called
   * when the piece's memory is not needed any more, perhaps later, perhaps never.
   */
  async send(piece: Uint8Array, onTaken: () => void): Promise<void> {
    if (this.request.write(piece, onTaken) || !this.wantsBody) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }

  /** The answer's JSON; what the peer refused is thrown as the error that it gave. */
  async json(limitBytes: number): Promise<unknown> {
    const message = await this.#answer;
    const status = message.statusCode ?? 0;
    const text = await readText(message, limitBytes, this.#idleTimeoutMs);
    this.#whole = this.request.writableEnded;
    const value = parseJson(text);
    if (status === 200 && value !== undefined) return value;
    const body = errorBodySchema.safeParse(value);
    if (body.success) throw fromErrorBody(body.data);
    throw unexpected(status);
  }

  wasStale(thrown: unknown): boolean {
    const { code } = thrown as NodeJS.ErrnoException;
    return this.request.reusedSocket && (code === "ECONNRESET" || code === "EPIPE");
  }

  /** After a whole exchange the connection is kept for the next one; otherwise it ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#whole) this.request.destroy();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function silent(idleTimeoutMs: number): Error {
  return Object.assign(new Error(`silent for ${idleTimeoutMs} ms`), { code: "ETIMEDOUT" });
}

/** From a proxy on the way, or from something that is no Tidemark host. */
function unexpected(status: number): TidemarkError {
  return new TidemarkError(
    "UNREACHABLE",
    `Cannot reach the peer: because what answers is not a Tidemark host (HTTP status ${status}).`,
    { hint: "Check that address and port are those of a Tidemark host." },
  );
}

/**
 * A kept connection may be closed by the peer just when a request begins on it;
 * such a request did not arrive and is repeated on a fresh connection.
 */
export class StaleConnection extends Error {}
