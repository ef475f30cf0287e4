/**
 * Between two ports, told what to do on stdin, a word a line: `stall` (nothing
 * passes any more), `go`, `cut` (all connections are reset). Prints its port.
 *
 *   stalling-proxy HOST PORT
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";

const [host = "", port = ""] = process.argv.slice(2);
const sockets = new Set<Socket>();
let isStalled = false;

function carry(from: Socket, to: Socket): void {
  sockets.add(from);
  from.on("data", (chunk: Buffer) => {
    if (!to.write(chunk)) from.pause();
  });
  to.on("drain", () => {
    if (!isStalled) from.resume();
  });
  from.on("end", () => to.end());
  from.on("error", () => to.destroy());
  from.on("close", () => {
    sockets.delete(from);
    to.destroy();
  });
  if (isStalled) from.pause();
}

const server = createServer({ allowHalfOpen: true }, (near) => {
  const far = connect({ host, port: Number(port), allowHalfOpen: true });
  carry(near, far);
  carry(far, near);
});
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port }));
});

const orders: Readonly<Record<string, () => void>> = {
  stall: () => {
    isStalled = true;
    for (const socket of sockets) socket.pause();
  },
  go: () => {
    isStalled = false;
    for (const socket of sockets) socket.resume();
  },
  cut: () => {
    for (const socket of sockets) socket.resetAndDestroy();
  },
};
createInterface({ input: process.stdin })
  .on("line", (order) => orders[order]?.())
  .on("close", () => process.exit(0));
