import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { binding, type NativeDevice, type NativeNbdServer, type NativeNbdTls } from "./binding.js";

export interface NbdServerOptions {
  /** Either this Unix socket ... */
  readonly socketPath?: string;
  /** ... or this numeric address; port 0 takes any ... */
  readonly host?: string;
  readonly port?: number;
  /**
   * ... or this descriptor of a stream socket that listens already, as systemd hands
   * it over (activatedSockets() finds it). The server takes it over; anything else
   * than a listening Unix or TCP socket is refused.
   */
  readonly listenFd?: number;
  /**
   * A client that neither sends nor reads for so long, with nothing in flight, is
   * closed. Default: never, for a guest may be idle for days.
   */
  readonly idleLimitMs?: number;
  /** Threads that serve connections. Default: one for each core, at least 2. */
  readonly threadCount?: number;
  /** Default 256. */
  readonly maxConnections?: number;
  /**
   * False: connections wait until accept(), so that nobody comes before the exports
   * are there. Default true.
   */
  readonly acceptsAtOnce?: boolean;
  /** With it every client must use TLS; without it none can. */
  readonly tls?: NbdTlsOptions;
  /**
   * Its client is this machine's kernel: nothing that serves it may wait for memory
   * that may have to wait for it. Needs root. Default false.
   */
  readonly forKernelClient?: boolean;
}

/** All PEM. */
export interface NbdTlsOptions {
  /** The server's certificate, its intermediates behind it. */
  readonly certificatePem: string;
  /** Its private key, without a passphrase. */
  readonly keyPem: string;
  /**
   * Clients must show a certificate of one of these authorities, for clientAuth;
   * revocation lists in the same text are honoured. Without it no certificate is
   * asked for, and whoever reaches the server may use it.
   */
  readonly authorityPem?: string;
  /**
   * Names that clients' certificates must have one of: exact, or "*.example.com"
   * for all under it. A certificate without host names has its common name looked
   * at. Default: any that an authority signed.
   */
  readonly allowedClients?: readonly string[];
}

export interface NbdExportOptions {
  readonly description?: string;
  readonly readOnly?: boolean;
}

export interface NbdServerStatistics {
  readonly connectionsOpen: number;
  readonly connectionsTotal: number;
  readonly requestsTotal: number;
  readonly errorsTotal: number;
  /** Clients that did not get through the TLS handshake. */
  readonly tlsRefusalsTotal: number;
  /** Why the last of them did not, a sentence; "" while there is none. */
  readonly lastTlsRefusal: string;
}

/** An NBD server on threads of its own: nothing that JavaScript does delays its clients. */
export class NbdServer implements AsyncDisposable {
  readonly #native: NativeNbdServer;
  readonly #scheme: "nbd" | "nbds";
  /** "unix:PATH" or "HOST:PORT". */
  readonly address: string;

  private constructor(native: NativeNbdServer, scheme: "nbd" | "nbds") {
    this.#native = native;
    this.#scheme = scheme;
    this.address = native.address;
  }

  static async start(options: NbdServerOptions): Promise<NbdServer> {
    const places = [options.socketPath, options.host, options.listenFd];
    if (places.filter((place) => place !== undefined).length !== 1) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        "Cannot start the NBD server: it needs either a Unix socket or an address, or a socket that listens.",
      );
    }
    try {
      return new NbdServer(
        await binding.startNbdServer({
          unixPath: options.socketPath ?? "",
          host: options.host ?? "",
          port: options.port ?? 0,
          listenFd: options.listenFd ?? -1,
          idleLimitMs: options.idleLimitMs ?? 0,
          threadCount: options.threadCount ?? 0,
          maxConnections: options.maxConnections ?? 256,
          acceptsAtOnce: options.acceptsAtOnce ?? true,
          tls: options.tls === undefined ? null : nativeTls(options.tls),
          forKernelClient: options.forKernelClient ?? false,
        }),
        options.tls === undefined ? "nbd" : "nbds",
      );
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }

  /** Lets connections in, if that was put off. Idempotent. */
  accept(): void {
    typed(() => this.#native.accept());
  }

  addExport(name: string, device: NativeDevice, options: NbdExportOptions = {}): void {
    const { description = "", readOnly = false } = options;
    typed(() => this.#native.addExport(name, device, description, readOnly));
  }

  /** Its connections end after what is in flight. */
  async removeExport(name: string): Promise<void> {
    const removing = typed(() => this.#native.removeExport(name));
    await removing.catch((thrown: unknown) => {
      throw toTidemarkError(thrown);
    });
  }

  /**
   * Certificates for connections that come from now on; those that are open go on.
   * What cannot be used is refused and changes nothing. INVALID_ARGUMENT for a
   * server without TLS.
   */
  setTls(tls: NbdTlsOptions): void {
    typed(() => this.#native.setTls(nativeTls(tls)));
  }

  /** Connections that are open on the export; 0 when there is none of that name. */
  clientCount(name = ""): number {
    return typed(() => this.#native.clientCount(name));
  }

  /**
   * Ends the export's connections after what is in flight, without an error: a
   * client that reconnects by itself learns the disk's present size.
   */
  reconnectClients(name = ""): void {
    typed(() => this.#native.reconnectClients(name));
  }

  statistics(): NbdServerStatistics {
    return typed(() => this.#native.statistics());
  }

  /** The NBD URI of an export; with TLS, clients add where their own certificates are. */
  uriOf(exportName: string): string {
    const name = encodeURIComponent(exportName);
    return this.address.startsWith("unix:")
      ? `${this.#scheme}+unix:///${name}?socket=${encodeURI(this.address.slice("unix:".length))}`
      : `${this.#scheme}://${this.address}/${name}`;
  }

  /** Finishes what is in flight, closes the sockets. Idempotent. */
  async close(): Promise<void> {
    await this.#native.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function nativeTls(tls: NbdTlsOptions): NativeNbdTls {
  const { certificatePem, keyPem, authorityPem = "", allowedClients = [] } = tls;
  return { certificatePem, keyPem, authorityPem, allowedClients: [...allowedClients] };
}

function typed<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
