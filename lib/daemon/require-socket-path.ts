import { TidemarkError } from "../model/errors.js";

const MAX_SOCKET_PATH_BYTES = 107;

export function requireSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot serve at ${path}: because a Unix socket's path has at most ${MAX_SOCKET_PATH_BYTES} bytes.`,
    {
      hint: "Give the host a directory with a shorter path.",
    },
  );
}
