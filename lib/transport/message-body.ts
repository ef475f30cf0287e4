import type { IncomingMessage } from "node:http";
import { finished } from "node:stream";
import { TidemarkError } from "../model/errors.js";
import { BodyMessage } from "./body-message.js";

/** A promise: no more before it resolves. The piece is the taker's from then on. */
export type TakePiece = (piece: Buffer) => Promise<void> | undefined;

/**
 * Hands on the body's pieces as they come, straight from the parser where nothing makes it
 * wait. TIMED_OUT when none came for `idleTimeoutMs` while one was waited for; then the
 * connection is gone. When `take` throws or rejects, so does this; what is left of the body
 * can still be read.
 */
export async function takePieces(
  message: IncomingMessage,
  idleTimeoutMs: number,
  take: TakePiece,
): Promise<void> {
  const patience = new Patience(message, idleTimeoutMs);
  const { promise, resolve, reject } = withResolvers();
  const onPiece = (piece: Buffer): void => {
    try {
      const taken = take(piece);
      if (taken === undefined) return patience.begin();
      message.pause();
      patience.pause();
      taken.then(() => {
        patience.begin();
        message.resume();
      }, reject);
    } catch (thrown) {
      message.pause();
      reject(thrown);
    }
  };
  const forget = finished(message, { writable: false }, (error) => {
    if (error === undefined || error === null) resolve();
    else reject(error);
  });
  message.on("data", onPiece).resume();
  const direct = message instanceof BodyMessage ? message : undefined;
  direct?.handTo(onPiece);
  try {
    await promise;
  } finally {
    patience.end();
    forget();
    direct?.handTo(undefined);
    message.off("data", onPiece);
  }
}

/** Ends the connection of a sender that is silent while it is waited for. */
class Patience {
  readonly #timer: NodeJS.Timeout;
  #waiting = true;

  constructor(message: IncomingMessage, idleTimeoutMs: number) {
    this.#timer = setTimeout(() => {
      if (this.#waiting) message.destroy(silent(idleTimeoutMs));
    }, idleTimeoutMs);
    this.#timer.unref();
  }

  begin(): void {
    this.#waiting = true;
    this.#timer.refresh();
  }

  pause(): void {
    this.#waiting = false;
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

function withResolvers() {
  let resolve!: () => void;
  let reject!: (thrown: unknown) => void;
  const promise = new Promise<void>((fulfil, refuse) => {
    resolve = fulfil;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

/** The whole of a small body. LIMIT_REACHED past `limitBytes`. */
export async function readText(
  message: IncomingMessage,
  limitBytes: number,
  idleTimeoutMs: number,
): Promise<string> {
  const pieces: Buffer[] = [];
  let totalBytes = 0;
  await takePieces(message, idleTimeoutMs, (piece) => {
    totalBytes += piece.length;
    if (totalBytes > limitBytes) {
      throw new TidemarkError(
        "LIMIT_REACHED",
        `Cannot read the message: because it is longer than ${limitBytes} bytes.`,
      );
    }
    pieces.push(piece);
    return undefined;
  });
  return Buffer.concat(pieces).toString("utf8");
}

function silent(idleTimeoutMs: number): TidemarkError {
  return new TidemarkError(
    "TIMED_OUT",
    `Cannot read the message: because its sender was silent for ${idleTimeoutMs} ms.`,
  );
}
