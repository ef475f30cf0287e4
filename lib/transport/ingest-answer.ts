import type { IncomingMessage, ServerResponse } from "node:http";
import { httpStatus, toErrorBody } from "./error-body.js";
import { takePieces } from "./message-body.js";

/** How much of a refused request is read, so that its sender gets to see the refusal. */
const DRAIN_BYTES = 80 * 1024 * 1024;
const DRAIN_IDLE_MS = 5_000;

export function answerJson(response: ServerResponse, value: unknown): void {
  send(response, 200, value);
  response.end();
}

/**
 * Closing a connection with unread bytes resets it, and the reset may overtake
 * the answer; so the rest of the request is read, within bounds, before the end.
 */
export async function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
): Promise<void> {
  if (response.headersSent || request.socket.destroyed) {
    request.socket.destroy();
    return;
  }
  const body = toErrorBody(thrown);
  const whole = request.complete;
  if (!whole) response.setHeader("connection", "close");
  send(response, httpStatus(body.code), body);
  if (!whole) await drain(request);
  response.end();
}

function send(response: ServerResponse, status: number, value: unknown): void {
  const text = Buffer.from(JSON.stringify(value), "utf8");
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": text.length,
  });
  response.write(text);
}

async function drain(request: IncomingMessage): Promise<void> {
  let leftBytes = DRAIN_BYTES;
  try {
    await takePieces(request, DRAIN_IDLE_MS, (piece) => {
      leftBytes -= piece.length;
      if (leftBytes < 0) throw new Error("enough");
      return undefined;
    });
  } catch {
    // Enough was read, or the sender has gone and nobody reads the answer any more.
  }
}
