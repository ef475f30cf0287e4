import { connect, type Socket } from "node:net";
import { TidemarkError } from "../../model/errors.js";

const OPTION_MAGIC = 0x49484156454f5054n;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const INFO_EXPORT = 0;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const CLIENT_FLAGS = 3; // fixed newstyle, no zeroes
const CMD = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3 } as const;

/**
 * A guest's stand-in: fixed newstyle, simple replies, one request at a time. It
 * shares no code with the server, so that a mistake there is not made twice.
 */
export class NbdClient {
  readonly #socket: Socket;
  readonly #incoming: AsyncIterator<Buffer>;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #cookie = 0n;
  sizeBytes = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#incoming = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** `uri` is "nbd+unix:///NAME?socket=PATH". */
  static async connect(uri: string): Promise<NbdClient> {
    const { pathname, searchParams } = new URL(uri);
    const socket = connect({ path: searchParams.get("socket") ?? "" });
    const client = new NbdClient(socket);
    await client.#negotiate(decodeURIComponent(pathname.slice(1)));
    return client;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    await this.#request(CMD.READ, offsetBytes, lengthBytes);
    return this.#take(lengthBytes);
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    await this.#request(CMD.WRITE, offsetBytes, data.length, data);
  }

  async flush(): Promise<void> {
    await this.#request(CMD.FLUSH, 0, 0);
  }

  close(): void {
    this.#socket.end(this.#header(CMD.DISC, 0, 0));
  }

  async #negotiate(exportName: string): Promise<void> {
    await this.#take(18);
    const name = Buffer.from(exportName);
    const option = Buffer.alloc(4 + 16 + 4 + name.length + 2);
    option.writeUInt32BE(CLIENT_FLAGS, 0);
    option.writeBigUInt64BE(OPTION_MAGIC, 4);
    option.writeUInt32BE(OPT_GO, 12);
    option.writeUInt32BE(4 + name.length + 2, 16);
    option.writeUInt32BE(name.length, 20);
    name.copy(option, 24);
    this.#socket.write(option);
    for (;;) {
      const header = await this.#take(20);
      const type = header.readUInt32BE(12);
      const body = await this.#take(header.readUInt32BE(16));
      if (type === REP_ACK) return;
      if (type !== REP_INFO)
        throw new TidemarkError(
          "NOT_FOUND",
          `Cannot open export ${exportName}: because the server refused it.`,
        );
      if (body.readUInt16BE(0) === INFO_EXPORT) this.sizeBytes = Number(body.readBigUInt64BE(2));
    }
  }

  #header(command: number, offsetBytes: number, lengthBytes: number): Buffer {
    const header = Buffer.alloc(28);
    this.#cookie += 1n;
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(command, 6);
    header.writeBigUInt64BE(this.#cookie, 8);
    header.writeBigUInt64BE(BigInt(offsetBytes), 16);
    header.writeUInt32BE(lengthBytes, 24);
    return header;
  }

  async #request(
    command: number,
    offsetBytes: number,
    lengthBytes: number,
    data?: Buffer,
  ): Promise<void> {
    this.#socket.write(this.#header(command, offsetBytes, lengthBytes));
    if (data !== undefined) this.#socket.write(data);
    const reply = await this.#take(16);
    const errno = reply.readUInt32BE(4);
    if (reply.readUInt32BE(0) !== REPLY_MAGIC || reply.readBigUInt64BE(8) !== this.#cookie) {
      throw new TidemarkError("CORRUPT", "Cannot understand the NBD server's reply.");
    }
    if (errno !== 0)
      throw new TidemarkError("IO_ERROR", `The NBD server answered a request with errno ${errno}.`);
  }

  async #take(lengthBytes: number): Promise<Buffer> {
    while (this.#pendingBytes < lengthBytes) {
      const next = await this.#incoming.next();
      if (next.done === true)
        throw new TidemarkError("UNREACHABLE", "The NBD server closed the connection.");
      this.#pending.push(next.value);
      this.#pendingBytes += next.value.length;
    }
    const joined = Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [joined.subarray(lengthBytes)];
    this.#pendingBytes -= lengthBytes;
    return joined.subarray(0, lengthBytes);
  }
}
