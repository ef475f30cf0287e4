import { connect, type Socket } from "node:net";

const OPTION_MAGIC = 0x49484156454f5054n;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const INFO_EXPORT = 0;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const CLIENT_FLAGS = 3; // fixed newstyle, no zeroes
const REQUEST_BYTES = 28;
const REPLY_BYTES = 16;
const CMD = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3 } as const;

interface Waiting {
  readonly dataBytes: number;
  readonly resolve: (data: Buffer) => void;
  readonly reject: (error: Error) => void;
}

/**
 * A guest: fixed newstyle, simple replies, any number of requests in flight.
 * Written from the protocol alone, so that it does not repeat a mistake of the
 * server. A lost connection rejects every request that is under way.
 */
export class NbdClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<bigint, Waiting>();
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #nextCookie = 1n;
  #failure: Error | null = null;
  #wake: (() => void) | null = null;
  sizeBytes = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bufferedBytes += chunk.length;
      if (this.#wake === null) this.#takeReplies();
      else this.#wake();
    });
    socket.once("error", (error) => this.#fail(error));
    socket.once("close", () => this.#fail(new Error("the NBD server closed the connection")));
  }

  /** "nbd+unix:///NAME?socket=PATH" or "nbd://HOST:PORT/NAME". */
  static async connect(uri: string): Promise<NbdClient> {
    const { hostname, port, pathname, searchParams } = new URL(uri);
    const path = searchParams.get("socket");
    const socket = path === null ? connect(Number(port), hostname) : connect({ path });
    const client = new NbdClient(socket);
    await client.#negotiate(decodeURIComponent(pathname.replace(/^\/+/, "")));
    return client;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.#request(CMD.READ, offsetBytes, lengthBytes, null);
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    await this.#request(CMD.WRITE, offsetBytes, data.length, data);
  }

  async flush(): Promise<void> {
    await this.#request(CMD.FLUSH, 0, 0, null);
  }

  close(): void {
    if (this.#failure === null) this.#socket.end(this.#header(CMD.DISC, 0n, 0, 0));
    this.#fail(new Error("the NBD client was closed"));
  }

  /** Without goodbye. */
  destroy(): void {
    this.#socket.destroy();
  }

  async #negotiate(exportName: string): Promise<void> {
    try {
      await this.#taken(18);
      const name = Buffer.from(exportName);
      const option = Buffer.alloc(4 + 16 + 4 + name.length + 2);
      option.writeUInt32BE(CLIENT_FLAGS, 0);
      option.writeBigUInt64BE(OPTION_MAGIC, 4);
      option.writeUInt32BE(OPT_GO, 12);
      option.writeUInt32BE(4 + name.length + 2, 16);
      option.writeUInt32BE(name.length, 20);
      name.copy(option, 24);
      this.#socket.write(option);
      while (!(await this.#tookAck(exportName)));
    } catch (thrown) {
      this.#socket.destroy();
      throw thrown;
    }
  }

  async #tookAck(exportName: string): Promise<boolean> {
    const header = await this.#taken(20);
    const type = header.readUInt32BE(12);
    const body = await this.#taken(header.readUInt32BE(16));
    if (type === REP_ACK) return true;
    if (type !== REP_INFO) throw new Error(`the NBD server refused export "${exportName}"`);
    if (body.readUInt16BE(0) === INFO_EXPORT) this.sizeBytes = Number(body.readBigUInt64BE(2));
    return false;
  }

  /** During the handshake only. */
  async #taken(lengthBytes: number): Promise<Buffer> {
    while (this.#bufferedBytes < lengthBytes) {
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    return this.#take(lengthBytes);
  }

  #take(lengthBytes: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
    const joined = all ?? Buffer.alloc(0);
    this.#chunks = joined.length > lengthBytes ? [joined.subarray(lengthBytes)] : [];
    this.#bufferedBytes = joined.length - lengthBytes;
    return joined.subarray(0, lengthBytes);
  }

  #peekReply(): { readonly cookie: bigint; readonly errno: number } {
    if ((this.#chunks[0]?.length ?? 0) < REPLY_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    const header = this.#chunks[0] ?? Buffer.alloc(0);
    if (header.readUInt32BE(0) !== REPLY_MAGIC) throw new Error("a reply without its magic");
    return { errno: header.readUInt32BE(4), cookie: header.readBigUInt64BE(8) };
  }

  #takeReplies(): void {
    try {
      while (this.#bufferedBytes >= REPLY_BYTES) {
        const { cookie, errno } = this.#peekReply();
        const waiting = this.#waiting.get(cookie);
        if (waiting === undefined) throw new Error("a reply to no request");
        const dataBytes = errno === 0 ? waiting.dataBytes : 0;
        if (this.#bufferedBytes < REPLY_BYTES + dataBytes) return;
        const reply = this.#take(REPLY_BYTES + dataBytes);
        this.#waiting.delete(cookie);
        if (errno === 0) waiting.resolve(reply.subarray(REPLY_BYTES));
        else waiting.reject(new Error(`the NBD server answered with errno ${errno}`));
      }
    } catch (thrown) {
      this.#fail(thrown as Error);
    }
  }

  #header(command: number, cookie: bigint, offsetBytes: number, lengthBytes: number): Buffer {
    const header = Buffer.alloc(REQUEST_BYTES);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(command, 6);
    header.writeBigUInt64BE(cookie, 8);
    header.writeBigUInt64BE(BigInt(offsetBytes), 16);
    header.writeUInt32BE(lengthBytes, 24);
    return header;
  }

  #request(
    command: number,
    offsetBytes: number,
    lengthBytes: number,
    data: Buffer | null,
  ): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) {
        reject(this.#failure);
        return;
      }
      const cookie = this.#nextCookie;
      this.#nextCookie += 1n;
      const dataBytes = command === CMD.READ ? lengthBytes : 0;
      this.#waiting.set(cookie, { dataBytes, resolve, reject });
      const header = this.#header(command, cookie, offsetBytes, lengthBytes);
      this.#socket.write(data === null ? header : Buffer.concat([header, data]));
    });
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
    for (const waiting of this.#waiting.values()) waiting.reject(this.#failure);
    this.#waiting.clear();
    this.#socket.destroySoon();
  }
}
