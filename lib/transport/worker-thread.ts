/**
 * The life of the transport's worker threads, seen from inside.
 *
 * A thread that holds TLS sockets must never be ended from outside
 * (Worker.terminate) nor from within a socket's callback (process.exit, an
 * uncaught exception): Node 20 then aborts the whole process, because
 * TLSWrap::ClearOut cannot return into a thread that is being torn down. So
 * threads end themselves, on a stack of their own.
 */
import { type MessagePort, parentPort } from "node:worker_threads";
import { TidemarkError } from "../model/errors.js";
import { announceBreak } from "./thread-calls.js";

/** The port to the thread that started this one. A defect ends this thread only. */
export function enterWorkerThread(): MessagePort {
  const port = parentPort;
  if (port === null) {
    throw new TidemarkError("CONFLICT", "Cannot start: because this is no worker thread.");
  }
  process.on("uncaughtException", (error) => {
    announceBreak(port, error);
    endWorkerThread(1);
  });
  return port;
}

/** Once whatever is under way on this stack has returned. */
export function endWorkerThread(exitCode: number): void {
  setImmediate(() => process.exit(exitCode));
}
