/** Whether this host could replicate to another: step by step, and nothing changes there. */
import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket } from "node:net";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { TlsMaterial } from "../model/peer.js";
import {
  PEER_TEST_STEPS,
  type PeerTestReport,
  type PeerTestStep,
  type PeerTestStepName,
} from "../model/peer-test.js";
import { HttpsReplicaEndpoint } from "./https-replica-client.js";
import type { LanePool } from "./lane-pool.js";
import { inspectCertificate } from "./peer-certificate.js";
import type { Hello } from "./peer-schemas.js";
import { openTunnel, parseProxyUrl } from "./proxy-tunnel.js";

export interface PeerTestOptions {
  /** "https://host:port". */
  readonly url: string;
  readonly proxyUrl: string | null;
  readonly tls: TlsMaterial;
  readonly lanes: LanePool;
  /** What would have to fit there. Default: anything. */
  readonly neededBytes?: number;
  readonly nowMs?: number;
  readonly signal?: AbortSignal;
}

interface Finding {
  readonly detail: string;
  /** A warning when there is one. */
  readonly hint?: string;
}

type Step = (trial: Trial) => Promise<Finding>;

const CONNECT_TIMEOUT_MS = 5_000;
const LITTLE_SPACE_BYTES = 2 ** 30;

export async function testPeer(options: PeerTestOptions): Promise<PeerTestReport> {
  const trial = new Trial(options);
  const steps: PeerTestStep[] = [];
  try {
    for (const step of PEER_TEST_STEPS) {
      const isOver = steps.some(({ outcome }) => outcome === "failed");
      steps.push(isOver ? notTried(step) : await tried(step, trial));
    }
  } finally {
    await trial.end();
  }
  const { hello } = trial;
  return {
    url: options.url,
    proxyUrl: options.proxyUrl,
    isReady: steps.every(({ outcome }) => outcome === "ok" || outcome === "warning"),
    steps,
    hostName: hello?.host?.hostName ?? null,
    softwareVersion: hello?.host?.softwareVersion ?? null,
    freeBytes: hello?.host?.freeBytes ?? null,
  };
}

async function tried(step: PeerTestStepName, trial: Trial): Promise<PeerTestStep> {
  try {
    const { detail, hint } = await STEPS[step](trial);
    const outcome = hint === undefined ? "ok" : "warning";
    return { step, outcome, code: null, detail, hint: hint ?? null };
  } catch (thrown) {
    const { code, message, hint } = toTidemarkError(thrown);
    return { step, outcome: "failed", code, detail: message, hint: hint ?? null };
  }
}

function notTried(step: PeerTestStepName): PeerTestStep {
  return { step, outcome: "not tried", code: null, detail: "A step before it failed.", hint: null };
}

/** What the steps have found so far. */
class Trial {
  readonly options: PeerTestOptions;
  readonly host: string;
  readonly port: number;
  readonly proxy: URL | null;
  socket: Socket | null = null;
  hello: Hello | null = null;
  readonly #endpoint: HttpsReplicaEndpoint;

  constructor(options: PeerTestOptions) {
    const { url, proxyUrl, tls, lanes } = options;
    this.options = options;
    this.#endpoint = new HttpsReplicaEndpoint({ replicaUrl: url, proxyUrl, tls: () => tls, lanes });
    const { hostname, port } = new URL(url);
    this.host = hostname.replace(/^\[|\]$/g, "");
    this.port = Number(port || 443);
    this.proxy = proxyUrl === null ? null : parseProxyUrl(proxyUrl);
  }

  async greet(): Promise<Hello> {
    this.hello = await this.#endpoint.hello(this.options.signal);
    return this.hello;
  }

  async end(): Promise<void> {
    this.socket?.destroy();
    await this.#endpoint.close();
  }
}

const STEPS: Readonly<Record<PeerTestStepName, Step>> = {
  name: async ({ host, proxy }) => {
    const name = proxy?.hostname.replace(/^\[|\]$/g, "") ?? host;
    const what = proxy === null ? name : `The proxy's name ${name}`;
    if (isIP(name) !== 0) return { detail: `${what} is an address.` };
    const found = await lookup(name, { all: true }).catch((cause: NodeJS.ErrnoException) => {
      throw unresolved(name, cause);
    });
    return { detail: `${what} is ${found.map(({ address }) => address).join(", ")}.` };
  },

  route: async (trial) => {
    const { host, port, proxy } = trial;
    trial.socket =
      proxy === null ? await connectTo(host, port) : await openTunnel(proxy, host, port);
    const by = proxy === null ? "" : `, by way of ${proxy.origin}`;
    return { detail: `Port ${port} accepts connections${by}.` };
  },

  certificate: async ({ host, socket, options }) => {
    if (socket === null) throw new TidemarkError("INTERNAL", "Cannot test without a connection.");
    return inspectCertificate(socket, host, options.tls, options.nowMs ?? Date.now());
  },

  version: async (trial) => {
    const { host, protocolVersions } = await trial.greet();
    const software = host === undefined ? "" : ` ${host.softwareVersion} (${host.hostName})`;
    return { detail: `Tidemark${software}, protocol version ${protocolVersions.join(", ")}.` };
  },

  accepting: async ({ hello }) => {
    if (hello?.host === undefined) return { detail: "The peer, an earlier version, does not say." };
    if (hello.host.acceptsReplicas) return { detail: "The peer accepts replicas." };
    throw new TidemarkError(
      "FORBIDDEN",
      `Cannot replicate to ${hello.host.hostName}: because it accepts no replicas.`,
      { hint: "Turn that on there: tidemark host accept-replicas on." },
    );
  },

  permission: async ({ hello }) => {
    const refusal = hello?.host?.refusal ?? null;
    if (refusal === null) return { detail: "This host may replicate there." };
    throw new TidemarkError("FORBIDDEN", refusal.message, { hint: refusal.hint ?? "" });
  },

  space: async ({ hello, options }) => {
    const freeBytes = hello?.host?.freeBytes ?? null;
    const neededBytes = options.neededBytes ?? 0;
    if (freeBytes === null) return { detail: "The peer does not say how much is free." };
    const detail = `${gib(freeBytes)} GiB are free there.`;
    if (freeBytes < neededBytes) {
      throw new TidemarkError(
        "NO_SPACE",
        `Cannot keep the replica there: because ${gib(neededBytes)} GiB are needed and ${gib(freeBytes)} GiB are free.`,
        { hint: "Make room at the replica, or replicate to another host." },
      );
    }
    return freeBytes < LITTLE_SPACE_BYTES
      ? { detail, hint: "Make room at the replica." }
      : { detail };
  },
};

function connectTo(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
      socket.destroy(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" }));
    });
    socket.once("connect", () => {
      socket.setTimeout(0);
      resolve(socket);
    });
    socket.on("error", (cause) => reject(unrouted(host, port, cause)));
  });
}

const ROUTE_FAULTS: Readonly<Record<string, readonly [string, string]>> = {
  ECONNREFUSED: ["nothing listens there", "Start the host there, and check the port."],
  ETIMEDOUT: [
    "there is no answer",
    "Open the port in the firewalls between, and check the address.",
  ],
  EHOSTUNREACH: ["there is no route to it", "Check the network between the two hosts."],
  ENETUNREACH: ["there is no route to it", "Check the network between the two hosts."],
};

function unrouted(host: string, port: number, cause: NodeJS.ErrnoException): TidemarkError {
  const [why, hint] = ROUTE_FAULTS[cause.code ?? ""] ?? [cause.message, "Check address and port."];
  const message = `Cannot connect to ${host} port ${port}: because ${why} (${cause.code ?? "error"}).`;
  return new TidemarkError("UNREACHABLE", message, { hint, cause });
}

function unresolved(name: string, cause: NodeJS.ErrnoException): TidemarkError {
  return new TidemarkError(
    "UNREACHABLE",
    `Cannot find ${name}: because the name does not resolve (${cause.code ?? cause.message}).`,
    { hint: "Check the spelling, DNS and /etc/hosts of this host.", cause },
  );
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1);
}
