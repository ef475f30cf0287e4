/** The smallest NBD client: simple replies, one request at a time. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;

export class NbdClient implements AsyncDisposable {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async connect(path: string, exportName: string): Promise<NbdClient> {
    const socket = connect(path);
    await once(socket, "connect");
    const client = new NbdClient(socket);
    await client.#take(18);
    const name = Buffer.from(exportName);
    const option = Buffer.alloc(4 + 16);
    option.writeUInt32BE(3, 0);
    option.write("IHAVEOPT", 4, "latin1");
    option.writeUInt32BE(1, 12);
    option.writeUInt32BE(name.length, 16);
    socket.write(Buffer.concat([option, name]));
    await client.#take(10);
    return client;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    await this.#request(0, offsetBytes, lengthBytes);
    return this.#take(lengthBytes);
  }

  async write(offsetBytes: number, content: Buffer): Promise<void> {
    await this.#request(1, offsetBytes, content.length, content);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.end(header(2, 0, 0));
    this.#socket.destroy();
  }

  async #request(type: number, offsetBytes: number, lengthBytes: number, content?: Buffer) {
    this.#socket.write(header(type, offsetBytes, lengthBytes));
    if (content !== undefined) this.#socket.write(content);
    const reply = await this.#take(16);
    if (reply.readUInt32BE(0) !== REPLY_MAGIC) throw new Error("no reply of NBD");
    const error = reply.readUInt32BE(4);
    if (error !== 0) throw new Error(`NBD error ${error}`);
  }

  async #take(lengthBytes: number): Promise<Buffer> {
    for (;;) {
      const bytes = this.#socket.read(lengthBytes) as Buffer | null;
      if (bytes !== null) return bytes;
      if (this.#socket.readableEnded) throw new Error("the NBD server has closed the connection");
      await Promise.race([once(this.#socket, "readable"), once(this.#socket, "end")]);
    }
  }
}

function header(type: number, offsetBytes: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(BigInt(offsetBytes), 16);
  bytes.writeUInt32BE(lengthBytes, 24);
  return bytes;
}
