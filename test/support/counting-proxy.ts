import { connect, createServer } from "node:net";
import { LoopbackProxy } from "./loopback-proxy.js";

/** Passes connections on to a port of this machine, and counts what goes through. */
export class CountingProxy extends LoopbackProxy {
  static start(targetPort: number): Promise<CountingProxy> {
    const server = createServer();
    const proxy = new CountingProxy(server);
    server.on("connection", (near) => {
      const far = connect(targetPort, "127.0.0.1");
      proxy.carry(near, far);
      near.pipe(far).pipe(near);
    });
    return proxy.listen();
  }
}
