import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { LoopbackProxy } from "./loopback-proxy.js";

/** An HTTP proxy that knows CONNECT and nothing else; it counts, and keeps what it passes on. */
export class ConnectProxy extends LoopbackProxy {
  /** "host:port" of each tunnel that it made. */
  readonly tunnels: string[] = [];
  /** The first bytes of each tunnel, from the client's side. */
  readonly openings: Buffer[] = [];
  /** Set: every CONNECT is answered with it. */
  refusal: number | null = null;

  static start(): Promise<ConnectProxy> {
    const server = createServer((_request, response) => response.writeHead(405).end());
    const proxy = new ConnectProxy(server);
    server.on("connect", ({ url }, near: Socket, head: Buffer) => proxy.#tunnel(url, near, head));
    return proxy.listen();
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  #tunnel(authority: string | undefined, near: Socket, head: Buffer): void {
    if (this.refusal !== null) {
      near.end(`HTTP/1.1 ${this.refusal} No\r\n\r\n`);
      return;
    }
    const { hostname, port } = new URL(`https://${authority ?? ""}`);
    const far = connect(Number(port || 443), hostname, () => {
      near.write("HTTP/1.1 200 Connection established\r\n\r\n");
      if (head.length > 0) far.write(head);
      this.tunnels.push(authority ?? "");
      near.once("data", (chunk: Buffer) => this.openings.push(chunk));
      near.pipe(far).pipe(near);
    });
    this.carry(near, far);
  }
}
