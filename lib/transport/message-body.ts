import type { IncomingMessage } from "node:http";
import { TidemarkError } from "../model/errors.js";

/**
 * The body's pieces as they come. TIMED_OUT when none came for `idleTimeoutMs`
 * while one was waited for; then the connection is gone. Leaving the loop early
 * leaves the connection as it is.
 */
export async function* readPieces(
  message: IncomingMessage,
  idleTimeoutMs: number,
): AsyncGenerator<Buffer> {
  let waiting = true;
  const timer = setTimeout(() => {
    if (waiting) message.destroy(silent(idleTimeoutMs));
  }, idleTimeoutMs);
  timer.unref();
  try {
    for await (const piece of message.iterator({ destroyOnReturn: false })) {
      waiting = false;
      yield piece as Buffer;
      waiting = true;
      timer.refresh();
    }
  } finally {
    clearTimeout(timer);
  }
}

/** The whole of a small body. LIMIT_REACHED past `limitBytes`. */
export async function readText(
  message: IncomingMessage,
  limitBytes: number,
  idleTimeoutMs: number,
): Promise<string> {
  const pieces: Buffer[] = [];
  let totalBytes = 0;
  for await (const piece of readPieces(message, idleTimeoutMs)) {
    totalBytes += piece.length;
    if (totalBytes > limitBytes) {
      throw new TidemarkError(
        "LIMIT_REACHED",
        `Cannot read the message: because it is longer than ${limitBytes} bytes.`,
      );
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

function silent(idleTimeoutMs: number): TidemarkError {
  return new TidemarkError(
    "TIMED_OUT",
    `Cannot read the message: because its sender was silent for ${idleTimeoutMs} ms.`,
  );
}
