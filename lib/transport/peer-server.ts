import { once } from "node:events";
import { closeSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { toTidemarkError, TidemarkError } from "../model/errors.js";
import type { TlsMaterial } from "../model/peer.js";
import type { Greeter } from "./hello.js";
import type { ListenPlace } from "./ingest-call.js";
import { IngestWorkerHandle } from "./ingest-worker-handle.js";
import { DEFAULT_INGEST_LIMITS, type IngestLimits } from "./limits.js";

export interface PeerServerOptions extends Greeter {
  /** The compiled entry file that calls runIngest(). */
  readonly workerUrl: URL;
  /** Threads, each with a listening socket of its own. Default 2; 1 without `openSocket`. */
  readonly workerCount?: number;
  readonly host: string;
  /** 0: one that is free. */
  readonly port: number;
  /** Opens a listening SO_REUSEPORT socket; the descriptor becomes the server's. */
  readonly openSocket?: (host: string, port: number) => number;
  readonly tls: TlsMaterial;
  readonly limits?: Partial<IngestLimits>;
  /** One sentence for the log. */
  readonly onWarning?: (message: string) => void;
}

const RESTART_DELAY_MS = 500;
const DEFAULT_WORKER_COUNT = 2;

/**
 * The replica's listener: ingest threads take connections and segments, the
 * thread that started it is asked only for control calls and for the places
 * of segments. A thread that ends is replaced.
 */
export class PeerServer {
  readonly #options: PeerServerOptions;
  readonly #workers = new Set<IngestWorkerHandle>();
  readonly #closing = new AbortController();
  readonly #restarts = new Set<Promise<void>>();
  #tls: TlsMaterial;
  #port: number;

  private constructor(options: PeerServerOptions) {
    this.#options = options;
    this.#tls = options.tls;
    this.#port = options.port;
  }

  static async start(options: PeerServerOptions): Promise<PeerServer> {
    const server = new PeerServer(options);
    const workerCount =
      options.openSocket === undefined ? 1 : (options.workerCount ?? DEFAULT_WORKER_COUNT);
    try {
      if (options.openSocket !== undefined) await refuseIfTaken(options.host, options.port);
      for (let index = 0; index < workerCount; index += 1) await server.#startWorker();
    } catch (thrown) {
      await server.close();
      throw cannotListen(thrown, options);
    }
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get workerCount(): number {
    return this.#workers.size;
  }

  /** Connections from now on show and accept these. */
  async renewTls(tls: TlsMaterial): Promise<void> {
    this.#tls = tls;
    await Promise.all([...this.#workers].map((worker) => worker.renew({ op: "renew", tls })));
  }

  /** To as many threads as there would have been from the start without `workerCount`. */
  async grow(): Promise<void> {
    const count = this.#options.openSocket === undefined ? 1 : DEFAULT_WORKER_COUNT;
    while (this.#workers.size < count) await this.#startWorker();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#restarts);
    const workers = [...this.#workers];
    this.#workers.clear();
    await Promise.all(workers.map((worker) => worker.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The first worker finds out the port, where it was left open. */
  async #startWorker(): Promise<void> {
    const place = this.#openPlace();
    const worker = new IngestWorkerHandle({
      workerUrl: this.#options.workerUrl,
      replicaFor: this.#options.replicaFor,
      onContact: this.#options.onContact,
      describe: this.#options.describe,
      segmentDigests: this.#options.segmentDigests,
      onWarning: (message) => this.#options.onWarning?.(message),
      onLost: (lost, cause) => this.#lost(lost, cause),
    });
    try {
      const limits = { ...DEFAULT_INGEST_LIMITS, ...this.#options.limits };
      this.#port = await worker.listen({ op: "listen", place, tls: this.#tls, limits });
      this.#workers.add(worker);
    } catch (thrown) {
      await worker.close();
      if ("fd" in place) closeIfOpen(place.fd);
      throw thrown;
    }
  }

  #openPlace(): ListenPlace {
    const { host, openSocket } = this.#options;
    return openSocket === undefined
      ? { host, port: this.#port }
      : { fd: openSocket(host, this.#port) };
  }

  #lost(worker: IngestWorkerHandle, cause: TidemarkError): void {
    if (!this.#workers.delete(worker) || this.#closing.signal.aborted) return;
    this.#options.onWarning?.(`${cause.message} Another one takes its place.`);
    const restart = this.#restart().finally(() => this.#restarts.delete(restart));
    this.#restarts.add(restart);
  }

  async #restart(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        return await this.#startWorker();
      } catch (thrown) {
        const { message } = toTidemarkError(thrown);
        this.#options.onWarning?.(`An ingest thread does not start (${message}).`);
        await delay(RESTART_DELAY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }
}

/** A worker that failed to listen may or may not have closed its socket. */
function closeIfOpen(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // It was closed.
  }
}

function cannotListen(thrown: unknown, { host, port }: PeerServerOptions): TidemarkError {
  const error = toTidemarkError(thrown);
  const inUse = /EADDRINUSE/.test(error.message);
  if (error.message.startsWith("Cannot listen")) return error;
  const code = inUse ? "IN_USE" : error.code === "INTERNAL" ? "IO_ERROR" : error.code;
  const reason = inUse ? "another process listens there" : error.message;
  return new TidemarkError(code, `Cannot listen on ${host}:${port}: because ${reason}.`, {
    hint: inUse ? "Choose another port, or stop the other process." : "Check address and port.",
    cause: thrown,
  });
}

/** Sockets that share a port also share it with another process of this user, which would get half of the peers. */
async function refuseIfTaken(host: string, port: number): Promise<void> {
  const probe = createServer().listen({ host, port, exclusive: true });
  await once(probe, "listening");
  probe.close();
  await once(probe, "close");
}
