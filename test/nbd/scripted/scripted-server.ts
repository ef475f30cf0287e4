/**
 * An NBD server in memory that can be made to do single things wrong: what
 * proves that the suite's checks can fail, and, done right, the server for
 * features that no packaged one has. One request at a time, no haste.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { SecureContext } from "node:tls";
import { TLSSocket } from "node:tls";
import { ByteStream } from "../client/byte-stream.js";
import type { DefectName } from "./defects.js";
import { ScriptedHandshake } from "./scripted-handshake.js";
import { ScriptedTransmission } from "./scripted-transmission.js";

export interface ScriptedSettings {
  readonly socketPath: string;
  readonly sizeBytes?: number;
  /** What it says its size is. */
  readonly claimedBytes?: bigint;
  /** Every so many writes, one is refused with EIO. */
  readonly failsEach?: number;
  readonly defect?: DefectName;
  readonly isReadOnly?: boolean;
  readonly minimumBlock?: number;
  readonly tls?: SecureContext;
  readonly isTlsRequired?: boolean;
}

export class ScriptedServer {
  readonly settings: ScriptedSettings;
  readonly uri: string;
  readonly sizeBytes: number;
  /** Allocated and zero at first. */
  readonly disk: Buffer;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(settings: ScriptedSettings) {
    this.settings = settings;
    this.sizeBytes = settings.sizeBytes ?? 40 << 20;
    this.disk = Buffer.alloc(this.sizeBytes);
    this.uri = `nbd+unix:///?socket=${settings.socketPath}`;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined).on("close", () => this.#sockets.delete(socket));
      this.#serve(socket).catch(() => socket.destroy());
    });
  }

  static async start(settings: ScriptedSettings): Promise<ScriptedServer> {
    const server = new ScriptedServer(settings);
    server.#server.listen(settings.socketPath);
    await once(server.#server, "listening");
    return server;
  }

  has(defect: DefectName): boolean {
    return this.settings.defect === defect;
  }

  /** As a crash would: no one is served any more. */
  crash(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.crash();
    if (this.#server.listening) await once(this.#server, "close");
  }

  secure(stream: ByteStream): ByteStream {
    const { tls } = this.settings;
    if (tls === undefined) throw new Error("no TLS");
    const secure = new TLSSocket(stream.detach(), { isServer: true, secureContext: tls });
    secure.on("error", () => undefined);
    return ByteStream.over(secure);
  }

  async #serve(socket: Socket): Promise<void> {
    const handshake = new ScriptedHandshake(this, ByteStream.over(socket));
    const agreed = await handshake.run();
    if (agreed !== null) await new ScriptedTransmission(this, agreed).run();
    handshake.stream.endWriting();
  }
}
