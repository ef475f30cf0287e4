import type { AddressInfo, Server, Socket } from "node:net";

/** What the proxies of tests have in common: a port, what came through it, and an end. */
export abstract class LoopbackProxy {
  /** What went through, both ways. */
  bytes = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  protected constructor(server: Server) {
    this.#server = server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  protected async listen(): Promise<this> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, "127.0.0.1", () => resolve());
    });
    return this;
  }

  /** When one of the two ends, so does the other. */
  protected carry(near: Socket, far: Socket): void {
    this.#watch(near, far);
    this.#watch(far, near);
  }

  #watch(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on("data", (chunk: Buffer) => {
      this.bytes += chunk.length;
    });
    from.on("error", () => to.destroy());
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
