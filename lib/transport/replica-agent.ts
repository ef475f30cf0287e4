import { Agent as HttpAgent } from "node:http";
import { Agent, type AgentOptions, type RequestOptions } from "node:https";
import type { Duplex } from "node:stream";
import { connect, type ConnectionOptions } from "node:tls";
import type { TlsMaterial } from "../model/peer.js";
import { openTunnel, parseProxyUrl } from "./proxy-tunnel.js";
import { clientTls } from "./tls-settings.js";

/** Keeps connections to a replica; each one proves both identities anew. */
export function newReplicaAgent(
  tls: TlsMaterial,
  proxyUrl: string | null,
  options: AgentOptions = {},
): Agent {
  const settings = { ...clientTls(tls), keepAlive: true, maxCachedSessions: 0, ...options };
  return proxyUrl === null ? new ReplicaAgent(settings) : new TunnelAgent(proxyUrl, settings);
}

type OnConnection = (error: Error | null, connection: Duplex) => void;

/**
 * All its connections have the same TLS settings: they are no part of what tells one from
 * another. Node puts certificates and keys into a name that it makes for each request.
 */
class ReplicaAgent extends Agent {
  override getName(options?: RequestOptions): string {
    return HttpAgent.prototype.getName.call(this, options);
  }
}

/** TLS inside of a proxy's tunnel: the proxy sees neither content nor certificates' keys. */
class TunnelAgent extends ReplicaAgent {
  readonly #proxy: URL;

  constructor(proxyUrl: string, options: AgentOptions) {
    super(options);
    this.#proxy = parseProxyUrl(proxyUrl);
  }

  override createConnection(
    options: ConnectionOptions,
    onConnection?: OnConnection,
  ): Duplex | null | undefined {
    openTunnel(this.#proxy, options.host ?? "", Number(options.port)).then(
      (socket) => onConnection?.(null, connect({ ...options, socket })),
      (thrown: unknown) => onConnection?.(thrown as Error, undefined as unknown as Duplex),
    );
    return undefined;
  }
}
