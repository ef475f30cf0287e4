import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import type { SegmentReceipt } from "../model/delta.js";
import type { PeerIdentity } from "../model/peer.js";
import type { OpenSegmentSink, SegmentReceiver, SegmentSlot } from "../model/segment-receiver.js";
import { BodyMessage } from "./body-message.js";
import { readControlRequest, versionlessPath } from "./control-request.js";
import { answerError, answerJson } from "./ingest-answer.js";
import type { MainCall, WorkerCall } from "./ingest-call.js";
import type { IngestLimits } from "./limits.js";
import { matchPath, PROBE_PATH, SEGMENT_PATH } from "./peer-routes.js";
import { ingestProbe } from "./probe-ingest.js";
import { ingestSegment } from "./segment-ingest.js";
import { answerThreadCalls, ThreadCaller } from "./thread-calls.js";
import { serverTls } from "./tls-settings.js";
import { endWorkerThread, enterWorkerThread } from "./worker-thread.js";
import { ZstdDecoder } from "./zstd-decoder.js";

const HANG_UP_CODES: ReadonlySet<string> = new Set([
  "HPE_INVALID_EOF_STATE",
  "ECONNRESET",
  "EPIPE",
]);

export interface IngestOptions {
  readonly openSink: OpenSegmentSink;
  /** From the DER of the peer's certificate; throws UNAUTHENTICATED. */
  readonly identifyPeer: (certificateDer: Uint8Array | undefined) => PeerIdentity;
  /** Gives back a piece of a body; without it the collector has a gigabyte of them for each. */
  readonly freeMemory?: (bytes: Uint8Array) => void;
}

/** The body of an ingest worker's thread: listens, and does what PeerServer asks. */
export function runIngest(options: IngestOptions): void {
  const port = enterWorkerThread();
  const main = new ThreadCaller(port);
  let listener: IngestListener | undefined;
  answerThreadCalls(port, async (payload) => {
    const call = payload as WorkerCall;
    if (call.op === "listen") {
      listener = new IngestListener(options, main, call);
      return listener.listen(call);
    }
    if (call.op === "renew") return listener?.renew(call);
    await listener?.close();
    endWorkerThread(0);
    return undefined;
  });
}

type ListenCall = Extract<WorkerCall, { op: "listen" }>;

class IngestListener {
  readonly #options: IngestOptions;
  readonly #main: ThreadCaller;
  readonly #limits: IngestLimits;
  readonly #server: Server;
  readonly #idleDecoders: ZstdDecoder[] = [];
  readonly #serving = new Set<Promise<void>>();
  /** By connection: TLS 1.3 shows a certificate once. */
  readonly #peers = new WeakMap<TLSSocket, PeerIdentity>();
  #lastWarningMs = Number.NEGATIVE_INFINITY;

  constructor(options: IngestOptions, main: ThreadCaller, { tls, limits }: ListenCall) {
    this.#options = options;
    this.#main = main;
    this.#limits = limits;
    this.#server = createServer(
      {
        ...serverTls(tls),
        IncomingMessage: BodyMessage,
        // Not Node's default for TLS, on either side: small answers would wait for an ACK.
        noDelay: true,
        handshakeTimeout: limits.handshakeTimeoutMs,
        headersTimeout: limits.headersTimeoutMs,
        requestTimeout: limits.requestTimeoutMs,
        keepAliveTimeout: limits.keepAliveTimeoutMs,
        connectionsCheckingInterval: Math.min(5_000, limits.headersTimeoutMs),
      },
      (message, response) => this.#begin(message, response),
    );
    this.#server.maxConnections = limits.maxConnections;
    // Failed handshakes come this way too.
    this.#server.on("clientError", (error, socket) => this.#refused(error, socket as TLSSocket));
  }

  async listen({ place }: ListenCall): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(place, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    this.#server.on("error", (error) => this.#warn(error.message));
    return (this.#server.address() as AddressInfo).port;
  }

  /** For connections from now on. */
  renew({ tls }: { readonly tls: ListenCall["tls"] }): void {
    this.#server.setSecureContext(serverTls(tls));
  }

  /** Resolves when nothing is open any more: neither connection nor sink. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
    await Promise.all(this.#serving);
  }

  #begin(message: IncomingMessage, response: ServerResponse): void {
    const serving = this.#serve(message, response).finally(() => this.#serving.delete(serving));
    this.#serving.add(serving);
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on("error", () => undefined);
    try {
      const peer = this.#identify(message.socket as TLSSocket);
      const path = versionlessPath(message.url ?? "");
      answerJson(response, await this.#answer(message, path, peer));
    } catch (thrown) {
      await answerError(message, response, thrown);
    }
  }

  #answer(message: IncomingMessage, path: string, peer: PeerIdentity): Promise<unknown> {
    if (message.method === "PUT" && path === PROBE_PATH) return this.#probe(message, peer);
    const segment = message.method === "PUT" ? matchPath(SEGMENT_PATH, path) : undefined;
    if (segment === undefined) return this.#control(message, path, peer);
    return this.#withDecoder((decoder) =>
      ingestSegment(message, segment, {
        receiver: this.#receiverFor(peer),
        openSink: this.#options.openSink,
        freeMemory: this.#options.freeMemory,
        decoder,
        idleTimeoutMs: this.#limits.idleTimeoutMs,
      }),
    );
  }

  async #probe(message: IncomingMessage, peer: PeerIdentity): Promise<SegmentReceipt> {
    await this.#call({ op: "admit", peer });
    const { idleTimeoutMs } = this.#limits;
    return this.#withDecoder((decoder) => ingestProbe(message, decoder, idleTimeoutMs));
  }

  #identify(socket: TLSSocket): PeerIdentity {
    const known = this.#peers.get(socket);
    if (known !== undefined) return known;
    // An empty object where there is none, whatever the types say.
    const certificate = socket.getPeerCertificate() as { raw?: Buffer } | undefined;
    const peer = this.#options.identifyPeer(certificate?.raw);
    this.#peers.set(socket, peer);
    return peer;
  }

  async #control(message: IncomingMessage, path: string, peer: PeerIdentity): Promise<unknown> {
    const request = await readControlRequest(message, path, this.#limits.idleTimeoutMs);
    return this.#call({ op: "control", peer, ...request });
  }

  async #withDecoder<T>(work: (decoder: ZstdDecoder) => Promise<T>): Promise<T> {
    const decoder = this.#idleDecoders.pop() ?? new ZstdDecoder();
    try {
      return await work(decoder);
    } finally {
      this.#idleDecoders.push(decoder);
    }
  }

  #receiverFor(peer: PeerIdentity): SegmentReceiver {
    return {
      reserveSegment: async (request) =>
        (await this.#call({ op: "reserve", peer, request })) as SegmentSlot,
      completeSegment: async (slot, receipt) => {
        await this.#call({ op: "complete", peer, slot, receipt });
      },
      abortSegment: async (slot) => {
        await this.#call({ op: "abort", peer, slot });
      },
    };
  }

  #call(call: MainCall): Promise<unknown> {
    return this.#main.call(call);
  }

  #refused(error: Error, socket: TLSSocket): void {
    const { code = error.message } = error as NodeJS.ErrnoException;
    // A known peer that hung up in the middle of a request: the request's handler deals with it.
    if (socket.authorized && HANG_UP_CODES.has(code)) {
      socket.destroy();
      return;
    }
    const fault = socket.authorized ? "sent what is no HTTP" : "did not pass the TLS handshake";
    const reason = (socket.authorizationError as unknown as string | null) ?? code;
    // A socket that is closed already has no address any more.
    const from = socket.remoteAddress === undefined ? "" : ` from ${socket.remoteAddress}`;
    this.#warn(`a connection${from} that ${fault} (${reason})`);
    socket.destroy();
  }

  /** At most one a second: whoever sends garbage does not get to fill a log. */
  #warn(what: string): void {
    const nowMs = performance.now();
    if (nowMs - this.#lastWarningMs < 1000) return;
    this.#lastWarningMs = nowMs;
    this.#call({ op: "warn", message: `Refused ${what}.` }).catch(() => undefined);
  }
}
