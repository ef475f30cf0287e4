/** A socket read by count: what is taken has come, or says why it has not. */
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { ConnectionEnded, NoAnswer } from "./failures.js";

export const ANSWER_LIMIT_MS = 10_000;

export class ByteStream {
  #socket: Socket;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #hasEnded = false;
  #endReason = "the server closed the connection";
  /** Of all who wait: for bytes, for the end. */
  readonly #wakers = new Set<() => void>();
  readonly #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#bufferedBytes += chunk.length;
    this.#wake();
  };
  readonly #onEnd = (): void => this.#end(this.#endReason);
  readonly #onError = (error: Error): void => this.#end(error.message);

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen();
  }

  static connect(to: {
    socketPath: string | null;
    host: string;
    port: number;
  }): Promise<ByteStream> {
    const socket = to.socketPath === null ? connect(to.port, to.host) : connect(to.socketPath);
    socket.setNoDelay(true);
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new ByteStream(socket));
      });
    });
  }

  static over(socket: Socket): ByteStream {
    return new ByteStream(socket);
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  write(...parts: readonly Buffer[]): void {
    if (!this.#hasEnded)
      this.#socket.write(parts.length === 1 ? (parts[0] ?? "") : Buffer.concat(parts));
  }

  async take(lengthBytes: number, limitMs = ANSWER_LIMIT_MS): Promise<Buffer> {
    await this.#until(() => this.#bufferedBytes >= lengthBytes, limitMs);
    if (this.#bufferedBytes >= lengthBytes) return this.#cut(lengthBytes);
    if (this.#hasEnded) throw new ConnectionEnded(this.#endReason);
    throw new NoAnswer(`no answer within ${limitMs / 1000} s`);
  }

  /** Whether the server ends the connection; `bufferedBytes` tells what it said before. */
  async ends(limitMs = ANSWER_LIMIT_MS): Promise<boolean> {
    await this.#until(() => this.#hasEnded, limitMs);
    return this.#hasEnded;
  }

  /** Whether anything comes: an answer or the end. */
  async stirs(limitMs: number): Promise<boolean> {
    await this.#until(() => this.#bufferedBytes > 0, limitMs);
    return this.#bufferedBytes > 0 || this.#hasEnded;
  }

  /** Leaves the socket to another; what came before and was not taken is dropped. */
  detach(): Socket {
    this.#socket.off("data", this.#onData).off("error", this.#onError);
    this.#socket.off("end", this.#onEnd).off("close", this.#onEnd);
    this.#chunks = [];
    this.#bufferedBytes = 0;
    return this.#socket;
  }

  /** The rest of the connection is TLS. What came before and was not taken is dropped. */
  async startTls(options: ConnectionOptions): Promise<void> {
    const plain = this.detach();
    plain.on("error", () => undefined);
    const secure = connectTls({ ...options, socket: plain });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new NoAnswer("no TLS handshake")), ANSWER_LIMIT_MS);
      const fail = (error: Error) => {
        clearTimeout(timer);
        this.#end(error.message);
        secure.destroy();
        reject(new ConnectionEnded(`TLS: ${error.message}`));
      };
      secure.once("error", fail);
      secure.once("close", () => fail(new Error("the server closed the connection")));
      secure.once("secureConnect", () => {
        clearTimeout(timer);
        secure.removeAllListeners("close").off("error", fail);
        resolve();
      });
    });
    this.#socket = secure;
    this.#listen();
  }

  endWriting(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #listen(): void {
    this.#socket.on("data", this.#onData).on("error", this.#onError);
    this.#socket.on("end", this.#onEnd).on("close", this.#onEnd);
  }

  #end(reason: string): void {
    if (!this.#hasEnded) this.#endReason = reason;
    this.#hasEnded = true;
    this.#wake();
  }

  async #until(holds: () => boolean, limitMs: number): Promise<void> {
    const deadlineMs = performance.now() + limitMs;
    while (!holds() && !this.#hasEnded) {
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) return;
      await this.#stir(leftMs);
    }
  }

  /** Until something comes, but no longer than this. */
  #stir(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const waker = () => {
        clearTimeout(timer);
        this.#wakers.delete(waker);
        resolve();
      };
      const timer = setTimeout(waker, limitMs);
      this.#wakers.add(waker);
    });
  }

  #wake(): void {
    for (const waker of this.#wakers) waker();
  }

  #cut(lengthBytes: number): Buffer {
    const parts: Buffer[] = [];
    let missing = lengthBytes;
    while (missing > 0) {
      const first = this.#chunks.shift() ?? Buffer.alloc(0);
      parts.push(first.subarray(0, missing));
      if (first.length > missing) this.#chunks.unshift(first.subarray(missing));
      missing -= Math.min(first.length, missing);
    }
    this.#bufferedBytes -= lengthBytes;
    return parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
  }
}
