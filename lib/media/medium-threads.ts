import type { SegmentReceipt, SegmentSource } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import type { FilePart } from "../model/seed.js";
import type { SegmentSlot } from "../model/segment-receiver.js";
import { WorkerHandle } from "../transport/worker-handle.js";
import type { FileSum } from "./medium-files.js";
import type { MediumSegments } from "./medium-segments.js";
import type { MediumCall } from "./medium-thread.js";
import type { SegmentTarget, SegmentToRead, WrittenSegment } from "./segment-file.js";

const DEFAULT_THREAD_COUNT = 2;

interface Thread {
  readonly handle: WorkerHandle;
  isBusy: boolean;
}

/** Threads that compress and encrypt, one file each at a time; started when they are needed. */
export class MediumThreads implements MediumSegments {
  readonly #workerUrl: URL;
  readonly #threadCount: number;
  readonly #threads = new Set<Thread>();
  readonly #waiting: (() => void)[] = [];
  #isClosed = false;

  /** `workerUrl`: the compiled entry file that calls runMediumThread(). */
  constructor(workerUrl: URL, threadCount = DEFAULT_THREAD_COUNT) {
    this.#workerUrl = workerUrl;
    this.#threadCount = threadCount;
  }

  write(
    source: SegmentSource,
    target: SegmentTarget,
    signal?: AbortSignal,
  ): Promise<WrittenSegment> {
    const { deltaId, plan } = source;
    return this.#call({ op: "write", deltaId, plan, target }, signal) as Promise<WrittenSegment>;
  }

  read(slot: SegmentSlot, file: SegmentToRead, signal?: AbortSignal): Promise<SegmentReceipt> {
    return this.#call({ op: "read", slot, file }, signal) as Promise<SegmentReceipt>;
  }

  /** Of an existing disk. */
  fill(slot: SegmentSlot, part: FilePart, signal?: AbortSignal): Promise<SegmentReceipt | null> {
    return this.#call({ op: "fill", slot, part }, signal) as Promise<SegmentReceipt | null>;
  }

  sum(path: string, signal?: AbortSignal): Promise<FileSum> {
    return this.#call({ op: "sum", path }, signal) as Promise<FileSum>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    for (const wake of this.#waiting.splice(0)) wake();
    const call: MediumCall = { op: "close" };
    await Promise.all([...this.#threads].map(({ handle }) => handle.close(call)));
  }

  async #call(call: MediumCall, signal: AbortSignal | undefined): Promise<unknown> {
    const thread = await this.#idleThread();
    try {
      signal?.throwIfAborted();
      return await thread.handle.caller.call(call, signal);
    } finally {
      thread.isBusy = false;
      this.#waiting.shift()?.();
    }
  }

  async #idleThread(): Promise<Thread> {
    for (;;) {
      if (this.#isClosed) throw closed();
      const idle = [...this.#threads].find(({ isBusy }) => !isBusy) ?? this.#start();
      if (idle !== null) {
        idle.isBusy = true;
        return idle;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #start(): Thread | null {
    if (this.#threads.size >= this.#threadCount) return null;
    const handle = new WorkerHandle(this.#workerUrl, (cause) => {
      this.#threads.delete(thread);
      return this.#isClosed ? closed() : lost(cause);
    });
    const thread: Thread = { handle, isBusy: false };
    this.#threads.add(thread);
    return thread;
  }
}

function lost(cause: Error | undefined): TidemarkError {
  const reason = cause?.message ?? "its thread ended";
  return new TidemarkError("INTERNAL", `Cannot go on with the medium: because ${reason}.`, {
    retryable: true,
    hint: "It is tried again; report this.",
    cause,
  });
}

function closed(): TidemarkError {
  return new TidemarkError("CLOSED", "Cannot go on with the medium: because it is closed.");
}
