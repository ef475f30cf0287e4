import { Agent } from "node:https";
import type { BlockHashRequest } from "../model/block-hashes.js";
import { DELTA_FORMAT_VERSION, type DeltaHeader } from "../model/delta.js";
import type { SegmentReceipt, SegmentSource } from "../model/delta.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import type { TlsMaterial } from "../model/peer.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaEndpoint,
  ReplicaVmStatus,
} from "../model/replica-endpoint.js";
import { controlCall } from "./control-call.js";
import { closesAfterHandshake } from "./handshake-probe.js";
import type { LanePool } from "./lane-pool.js";
import { CLIENT_IDLE_TIMEOUT_MS, MAX_COMPRESSION_LEVEL, PROTOCOL_VERSION } from "./limits.js";
import { networkError, ourselvesNotAccepted } from "./network-error.js";
import {
  buildPath,
  PEER_ROUTES,
  type PeerAnswer,
  type PeerArgs,
  type PeerRouteName,
  SEGMENT_PATH,
} from "./peer-routes.js";
import { clientTls } from "./tls-settings.js";

export interface HttpsReplicaOptions {
  /** "https://host:port"; the host must be in the replica's certificate. */
  readonly replicaUrl: string;
  /** Asked before each call; another object is a renewed certificate, for new connections. */
  readonly tls: () => TlsMaterial;
  readonly lanes: LanePool;
  /** zstd, 1 to 19. Default 1. */
  readonly compressionLevel?: number;
  /** How long nothing may move on a connection that waits for an answer. */
  readonly idleTimeoutMs?: number;
}

interface OpenAttempt {
  readonly vmId: string;
  readonly deltaId: string;
  readonly attempt: number;
}

/** A replica over the network: control calls from this thread, segments through lanes. */
export class HttpsReplicaEndpoint implements ReplicaEndpoint {
  readonly #origin: string;
  readonly #options: HttpsReplicaOptions;
  readonly #compressionLevel: number;
  readonly #idleTimeoutMs: number;
  /** What this end announced last of each VM: segments belong to it. */
  readonly #openAttempts = new Map<string, OpenAttempt>();
  #agent: { readonly agent: Agent; readonly tls: TlsMaterial } | undefined;
  #agreed = false;
  #closed = false;

  constructor(options: HttpsReplicaOptions) {
    this.#origin = parseReplicaUrl(options.replicaUrl);
    this.#options = options;
    this.#compressionLevel = parseLevel(options.compressionLevel ?? 1);
    this.#idleTimeoutMs = options.idleTimeoutMs ?? CLIENT_IDLE_TIMEOUT_MS;
  }

  enable(vm: ReplicatedVm, generation: Generation, signal?: AbortSignal): Promise<ReplicaVmStatus> {
    return this.#call("enable", { vmId: vm.vmId, vm, generation }, signal);
  }

  status(vmId: string, signal?: AbortSignal): Promise<ReplicaVmStatus> {
    return this.#call("status", { vmId }, signal);
  }

  openStaging(vmId: string, generation: Generation, signal?: AbortSignal): Promise<string> {
    return this.#call("openStaging", { vmId, generation }, signal);
  }

  async openDelta(header: DeltaHeader, signal?: AbortSignal): Promise<readonly SegmentReceipt[]> {
    const receipts = await this.#call("openDelta", header, signal);
    const { vmId, deltaId, attempt } = header;
    this.#openAttempts.set(vmId, { vmId, deltaId, attempt });
    return receipts;
  }

  async putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt> {
    this.#requireOpen();
    const { deltaId, plan } = source;
    const open = [...this.#openAttempts.values()].find((one) => one.deltaId === deltaId);
    if (open === undefined) throw notAnnounced();
    const job = {
      deltaId,
      plan,
      origin: this.#origin,
      path: buildPath(SEGMENT_PATH, { ...open, segmentIndex: plan.segmentIndex }),
      tls: this.#options.tls(),
      compressionLevel: this.#compressionLevel,
      idleTimeoutMs: this.#idleTimeoutMs,
    };
    return this.#options.lanes.send(job, signal);
  }

  commit(request: CommitRequest, signal?: AbortSignal): Promise<RecoveryPoint | null> {
    return this.#call("commit", request, signal);
  }

  async abandon(vmId: string, deltaId: string, signal?: AbortSignal): Promise<void> {
    await this.#call("abandon", { vmId, deltaId }, signal);
  }

  points(vmId: string, signal?: AbortSignal): Promise<readonly RecoveryPoint[]> {
    return this.#call("points", { vmId }, signal);
  }

  async blockHashes(request: BlockHashRequest, signal?: AbortSignal): Promise<Uint8Array> {
    return Buffer.from(await this.#call("blockHashes", request, signal), "base64");
  }

  /** The lanes are the caller's, and other endpoints' too. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#agent?.agent.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #call<N extends PeerRouteName>(
    name: N,
    args: PeerArgs<N>,
    signal: AbortSignal | undefined,
  ): Promise<PeerAnswer<N>> {
    this.#requireOpen();
    try {
      if (!this.#agreed) await this.#agree(signal);
      return await this.#exchange(name, args, signal);
    } catch (thrown) {
      throw await this.#explain(thrown, PEER_ROUTES[name].purpose);
    }
  }

  /** Both ends must know one protocol and one delta format; asked again after each interruption. */
  async #agree(signal: AbortSignal | undefined): Promise<void> {
    const hello = await this.#exchange("hello", {}, signal);
    requireVersion("protocol", PROTOCOL_VERSION, hello.protocolVersions);
    requireVersion("delta format", DELTA_FORMAT_VERSION, hello.deltaFormatVersions);
    this.#agreed = true;
  }

  #exchange<N extends PeerRouteName>(
    name: N,
    args: PeerArgs<N>,
    signal: AbortSignal | undefined,
  ): Promise<PeerAnswer<N>> {
    const { agent } = this.#currentAgent();
    const idleTimeoutMs = this.#idleTimeoutMs;
    return controlCall(name, args, { origin: this.#origin, agent, idleTimeoutMs, signal });
  }

  async #explain(thrown: unknown, purpose: string): Promise<TidemarkError> {
    if (thrown instanceof TidemarkError) return thrown;
    this.#agreed = false;
    const error = networkError(thrown, purpose, this.#origin);
    const { code } = thrown as NodeJS.ErrnoException;
    const wasReset = code === "ECONNRESET" || code === "EPIPE";
    if (wasReset && (await closesAfterHandshake(this.#origin, this.#options.tls()))) {
      return ourselvesNotAccepted(thrown, purpose, this.#origin);
    }
    return error;
  }

  #currentAgent(): { readonly agent: Agent; readonly tls: TlsMaterial } {
    const tls = this.#options.tls();
    if (this.#agent?.tls === tls) return this.#agent;
    // Calls under way end on the former agent; its idle connections time out.
    const agent = new Agent({ ...clientTls(tls), keepAlive: true, maxCachedSessions: 0 });
    this.#agent = { agent, tls };
    return this.#agent;
  }

  #requireOpen(): void {
    if (this.#closed) {
      throw new TidemarkError("CLOSED", "Cannot reach the replica: because the client is closed.");
    }
  }
}

function parseReplicaUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isOrigin = url?.pathname === "/" && url.search === "" && url.username === "";
  if (url?.protocol === "https:" && isOrigin) return url.origin;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text.slice(0, 100))} as a replica's address: because it is not of the form https://HOST:PORT.`,
    { hint: "Give the replica's host name, as its certificate names it, and its port." },
  );
}

function parseLevel(level: number): number {
  if (Number.isInteger(level) && level >= 1 && level <= MAX_COMPRESSION_LEVEL) return level;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot compress at level ${level}: because levels go from 1 to ${MAX_COMPRESSION_LEVEL}.`,
    { hint: "1 is the fastest; 3 is a good choice for slow lines." },
  );
}

function requireVersion(what: string, ours: number, theirs: readonly number[]): void {
  if (theirs.includes(ours)) return;
  throw new TidemarkError(
    "VERSION_UNKNOWN",
    `Cannot replicate: because this host speaks ${what} version ${ours} and the replica ${theirs.join(", ")}.`,
    { hint: "Bring both hosts to the same version of Tidemark, the replica first." },
  );
}

function notAnnounced(): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    "Cannot send a segment: because its delta is not open at the replica.",
    { hint: "Announce the delta first; a newer one takes its place." },
  );
}
