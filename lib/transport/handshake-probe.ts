import { connect } from "node:tls";
import type { TlsMaterial } from "../model/peer.js";
import { clientTls } from "./tls-settings.js";

const PROBE_TIMEOUT_MS = 5_000;

/**
 * Whether the peer ends a fresh connection at once after the handshake. In TLS
 * 1.3 a client's handshake is complete before the server has looked at its
 * certificate; a server that does not accept it may just close. A peer that is
 * down or restarting refuses the connection or keeps it instead.
 */
export function closesAfterHandshake(origin: string, tls: TlsMaterial): Promise<boolean> {
  const { hostname, port } = new URL(origin);
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve) => {
    let secured = false;
    let heard = false;
    const socket = connect({ ...clientTls(tls), host, port: Number(port || 443) }, () => {
      secured = true;
      socket.write(`GET /v1/hello HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    });
    socket.setTimeout(PROBE_TIMEOUT_MS, () => {
      heard = true;
      socket.destroy();
    });
    socket.once("data", () => {
      heard = true;
      socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(secured && !heard));
  });
}
