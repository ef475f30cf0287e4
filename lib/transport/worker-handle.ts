import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { TidemarkError } from "../model/errors.js";
import { ThreadCaller } from "./thread-calls.js";

/** How long a thread that was asked to end may take for it. */
const END_TIMEOUT_MS = 15_000;

/** A transport worker thread as the thread that started it sees it. */
export class WorkerHandle {
  readonly worker: Worker;
  readonly caller: ThreadCaller;
  readonly #exited: Promise<unknown>;

  /** `onExit`: why it broke, if it did; its answer is what calls are rejected with from then on. */
  constructor(url: URL, onExit: (cause: Error | undefined) => TidemarkError) {
    this.worker = new Worker(url);
    this.caller = new ThreadCaller(this.worker);
    let cause: Error | undefined;
    this.worker.once("error", (error) => {
      cause = error;
    });
    this.#exited = once(this.worker, "exit").catch(() => once(this.worker, "exit"));
    this.worker.once("exit", () => {
      this.caller.fail(onExit(cause ?? this.caller.brokenBy));
    });
  }

  /** `closeCall` makes the thread give up what it holds and end. */
  async close(closeCall: object): Promise<void> {
    this.caller.call(closeCall).catch(() => undefined);
    const patience = new AbortController();
    const timeout = delay(END_TIMEOUT_MS, "late", { signal: patience.signal, ref: false });
    const outcome = await Promise.race([this.#exited, timeout.catch(() => undefined)]);
    patience.abort();
    if (outcome === "late") await this.worker.terminate();
  }
}
