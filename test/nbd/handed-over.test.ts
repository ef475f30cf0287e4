/** Sockets that are handed over to our server. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import t from "tap";
import { type NbdServerOptions, NbdServer } from "#lib/index.js";

interface WithHandle {
  readonly _handle: { readonly fd: number };
}

void t.test("CVE-2025-40080: a descriptor that is no listening stream socket", async (t) => {
  const datagram = createSocket("udp4");
  await new Promise<void>((resolve) => {
    datagram.bind(0, "127.0.0.1", resolve);
  });
  const file = await open("/dev/null", "r+");
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const stream = connect((server.address() as AddressInfo).port, "127.0.0.1");
  await once(stream, "connect");
  const fdOf = (socket: unknown) => (socket as WithHandle)._handle.fd;
  for (const listenFd of [fdOf(datagram), fdOf(stream), file.fd, 999_999]) {
    const started = NbdServer.start({ listenFd } as NbdServerOptions);
    await t.rejects(started, { code: /./ }, "it is refused");
  }
  await file.close();
  datagram.close();
  stream.destroy();
  server.close();
});
