import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { binding, type NativeDevice, type NativeNbdServer } from "./binding.js";

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
}

/** An NBD server on threads of its own: nothing that JavaScript does delays its clients. */
export class NbdServer implements AsyncDisposable {
  readonly #native: NativeNbdServer;
  /** "unix:PATH" or "HOST:PORT". */
  readonly address: string;

  private constructor(native: NativeNbdServer) {
    this.#native = native;
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
        }),
      );
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
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

  statistics(): NbdServerStatistics {
    return typed(() => this.#native.statistics());
  }

  /** The NBD URI of an export. */
  uriOf(exportName: string): string {
    const name = encodeURIComponent(exportName);
    return this.address.startsWith("unix:")
      ? `nbd+unix:///${name}?socket=${encodeURI(this.address.slice("unix:".length))}`
      : `nbd://${this.address}/${name}`;
  }

  /** Finishes what is in flight, closes the sockets. Idempotent. */
  async close(): Promise<void> {
    await this.#native.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function typed<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
