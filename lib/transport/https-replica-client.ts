import type { Agent } from "node:https";
import type { BlockHashRequest } from "../model/block-hashes.js";
import { DELTA_FORMAT_VERSION, type DeltaHeader } from "../model/delta.js";
import type { SegmentPlan, SegmentReceipt, SegmentSource } from "../model/delta.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import type { Succession } from "../model/lineage.js";
import type { Compression } from "../model/relationship-settings.js";
import type { TlsMaterial } from "../model/peer.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaEndpoint,
  ReplicaVmStatus,
  ReturnedDisks,
  ReturnRequest,
} from "../model/replica-endpoint.js";
import {
  FIRST_SEGMENT_DIGEST,
  SEGMENT_DIGESTS,
  type SegmentDigestKind,
} from "../model/segment-digest.js";
import { AdaptiveCompression } from "./adaptive-compression.js";
import { agreeVersion } from "./agree-version.js";
import type { ContentCoding } from "./content-coding.js";
import { controlCall } from "./control-call.js";
import { closesAfterHandshake } from "./handshake-probe.js";
import { CLIENT_IDLE_TIMEOUT_MS, PROTOCOL_VERSIONS } from "./limits.js";
import { networkError, ourselvesNotAccepted } from "./network-error.js";
import {
  buildPath,
  PEER_ROUTES,
  type PeerAnswer,
  type PeerArgs,
  type PeerRouteName,
  PROBE_PATH,
  SEGMENT_PATH,
} from "./peer-routes.js";
import type { Hello } from "./peer-schemas.js";
import { parseProxyUrl } from "./proxy-tunnel.js";
import { newReplicaAgent } from "./replica-agent.js";
import type { SegmentJob } from "./segment-job.js";
import type { SegmentSender, SentSegment } from "./segment-sender.js";

export interface HttpsReplicaOptions {
  /** "https://host:port"; the host must be in the replica's certificate. */
  readonly replicaUrl: string;
  /** Asked before each call; another object is a renewed certificate, for new connections. */
  readonly tls: () => TlsMaterial;
  readonly lanes: SegmentSender;
  /** "http://host:port": connections are made through its CONNECT; TLS stays end to end. */
  readonly proxyUrl?: string | null;
  /** Asked before each segment. Default 1. */
  readonly compression?: () => Compression;
  /** How long nothing may move on a connection that waits for an answer. */
  readonly idleTimeoutMs?: number;
  /** Ascending. Default: those that this build speaks. */
  readonly protocolVersions?: readonly number[];
}

const NOBODY = "00000000-0000-0000-0000-000000000000";
const NO_PLAN = {
  segmentIndex: 0,
  diskIndex: 0,
  extents: new Float64Array(0),
  granularityBytes: 4096,
  captureId: 0,
};

interface OpenAttempt {
  readonly vmId: string;
  readonly deltaId: string;
  readonly attempt: number;
}

/** A replica over the network: control calls from this thread, segments through lanes. */
export class HttpsReplicaEndpoint implements ReplicaEndpoint {
  readonly #origin: string;
  readonly #options: HttpsReplicaOptions;
  readonly #adaptive = new AdaptiveCompression();
  readonly #idleTimeoutMs: number;
  readonly #proxyUrl: string | null;
  readonly #versions: readonly number[];
  /** What this end announced last of each VM: segments belong to it. */
  readonly #openAttempts = new Map<string, OpenAttempt>();
  #agent: { readonly agent: Agent; readonly tls: TlsMaterial } | undefined;
  /** The protocol version that both ends speak; undefined: to be asked. */
  #agreed: number | undefined;
  #peerCodings: readonly string[] = [];
  #digest: SegmentDigestKind = FIRST_SEGMENT_DIGEST;
  #commitsUnannounced = false;
  #closed = false;

  constructor(options: HttpsReplicaOptions) {
    this.#origin = parseReplicaUrl(options.replicaUrl);
    this.#options = options;
    this.#idleTimeoutMs = options.idleTimeoutMs ?? CLIENT_IDLE_TIMEOUT_MS;
    this.#proxyUrl = options.proxyUrl ?? null;
    if (this.#proxyUrl !== null) parseProxyUrl(this.#proxyUrl);
    this.#versions = options.protocolVersions ?? PROTOCOL_VERSIONS;
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
    if (attempt === 1) this.#adaptive.beginCycle();
    this.#openAttempts.set(vmId, { vmId, deltaId, attempt });
    return receipts;
  }

  async putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt> {
    this.#requireOpen();
    const { deltaId, plan } = source;
    const open = [...this.#openAttempts.values()].find((one) => one.deltaId === deltaId);
    if (open === undefined) throw notAnnounced();
    const path = this.#path(SEGMENT_PATH, { ...open, segmentIndex: plan.segmentIndex });
    const job = this.#job(deltaId, plan, path);
    const { receipt, ...times } = await this.#send(job, signal);
    if (this.#compression === "adaptive") {
      const { wireBytes, dataBytes, zeroBytes } = receipt;
      const contentBytes = dataBytes + zeroBytes;
      this.#adaptive.note({ level: job.compressionLevel, contentBytes, wireBytes, ...times });
    }
    return receipt;
  }

  /** After a failure the replica may be another version of itself: it is asked again. */
  async #send(job: SegmentJob, signal: AbortSignal | undefined): Promise<SentSegment> {
    try {
      return await this.#options.lanes.send(job, signal);
    } catch (thrown) {
      this.#agreed = undefined;
      throw thrown;
    }
  }

  largestSegmentBytes(): number {
    return this.#options.lanes.largestSegmentBytes?.() ?? Number.POSITIVE_INFINITY;
  }

  /** What the replica says of itself. VERSION_UNKNOWN when the two do not understand each other. */
  async hello(signal?: AbortSignal): Promise<Hello> {
    this.#requireOpen();
    try {
      return await this.#agree(signal);
    } catch (thrown) {
      throw await this.#explain(thrown, PEER_ROUTES.hello.purpose);
    }
  }

  /** The way that segments go, with content that the replica does not keep. */
  async probe(pieces: readonly Uint8Array[], signal?: AbortSignal): Promise<SegmentReceipt> {
    if (this.#agreed === undefined) await this.hello(signal);
    const contentBytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    const plan = { ...NO_PLAN, contentBytes };
    const path = this.#path(PROBE_PATH, {});
    const job = { ...this.#job(NOBODY, plan, path), digest: FIRST_SEGMENT_DIGEST, pieces };
    return (await this.#options.lanes.probe(job, signal)).receipt;
  }

  async commit(request: CommitRequest, signal?: AbortSignal): Promise<RecoveryPoint | null> {
    const { header, ...plain } = request;
    if (header !== undefined && this.#agreed === undefined) await this.hello(signal);
    if (header === undefined || this.#commitsUnannounced) {
      return this.#call("commit", request, signal);
    }
    await this.openDelta(header, signal);
    return this.#call("commit", plain, signal);
  }

  async abandon(vmId: string, deltaId: string, signal?: AbortSignal): Promise<void> {
    await this.#call("abandon", { vmId, deltaId }, signal);
  }

  async deleteVm(vmId: string, generation: Generation, signal?: AbortSignal): Promise<void> {
    await this.#call("deleteVm", { vmId, generation }, signal);
  }

  succeed(succession: Succession, signal?: AbortSignal): Promise<ReplicaVmStatus> {
    return this.#call("succeed", succession, signal);
  }

  takeReturned(request: ReturnRequest, signal?: AbortSignal): Promise<ReturnedDisks> {
    return this.#call("takeReturned", { vmId: request.vm.vmId, ...request }, signal);
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
      if (this.#agreed === undefined) await this.#agree(signal);
      return await this.#exchange(name, args, signal);
    } catch (thrown) {
      throw await this.#explain(thrown, PEER_ROUTES[name].purpose);
    }
  }

  /** Both ends must know one protocol and one delta format; asked again after each interruption. */
  async #agree(signal: AbortSignal | undefined): Promise<Hello> {
    const hello = await this.#exchange("hello", {}, signal);
    const version = agreeVersion("protocol", this.#versions, hello.protocolVersions);
    agreeVersion("delta format", [DELTA_FORMAT_VERSION], hello.deltaFormatVersions);
    this.#agreed = version;
    this.#peerCodings = hello.contentCodings;
    this.#commitsUnannounced = hello.commitsUnannounced;
    this.#digest =
      SEGMENT_DIGESTS.find((kind) => hello.segmentDigests.includes(kind)) ?? FIRST_SEGMENT_DIGEST;
    return hello;
  }

  #path(pattern: string, args: object): string {
    return buildPath(this.#agreed ?? this.#versions[0] ?? 1, pattern, args);
  }

  #job(deltaId: string, plan: SegmentPlan, path: string): SegmentJob {
    return {
      deltaId,
      plan,
      origin: this.#origin,
      path,
      tls: this.#options.tls(),
      proxyUrl: this.#proxyUrl,
      compressionLevel: this.#nextLevel(),
      digest: this.#digest,
      idleTimeoutMs: this.#idleTimeoutMs,
    };
  }

  get #compression(): Compression {
    return this.#options.compression?.() ?? 1;
  }

  /** 0: not compressed, where the peer takes that. */
  #nextLevel(): number {
    const compression = this.#compression;
    const level = compression === "adaptive" ? this.#adaptive.nextLevel() : compression;
    if (level !== "off" && level !== 0) return level;
    return this.#peerCodings.includes("identity" satisfies ContentCoding) ? 0 : 1;
  }

  #exchange<N extends PeerRouteName>(
    name: N,
    args: PeerArgs<N>,
    signal: AbortSignal | undefined,
  ): Promise<PeerAnswer<N>> {
    const { agent } = this.#currentAgent();
    const options = { origin: this.#origin, agent, idleTimeoutMs: this.#idleTimeoutMs, signal };
    const version = this.#agreed ?? this.#versions[0] ?? 1;
    return controlCall(name, args, { ...options, version });
  }

  async #explain(thrown: unknown, purpose: string): Promise<TidemarkError> {
    if (thrown instanceof TidemarkError) return thrown;
    this.#agreed = undefined;
    const error = networkError(thrown, purpose, this.#origin);
    const { code } = thrown as NodeJS.ErrnoException;
    const wasReset = code === "ECONNRESET" || code === "EPIPE";
    const tls = this.#options.tls();
    if (wasReset && (await closesAfterHandshake(this.#origin, tls, this.#proxyUrl))) {
      return ourselvesNotAccepted(thrown, purpose, this.#origin);
    }
    return error;
  }

  #currentAgent(): { readonly agent: Agent; readonly tls: TlsMaterial } {
    const tls = this.#options.tls();
    if (this.#agent?.tls === tls) return this.#agent;
    // Calls under way end on the former agent; its idle connections time out.
    const agent = newReplicaAgent(tls, this.#proxyUrl);
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

function notAnnounced(): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    "Cannot send a segment: because its delta is not open at the replica.",
    { hint: "Announce the delta first; a newer one takes its place." },
  );
}
