import type { Socket } from "node:net";
import { connect } from "node:tls";
import type { TlsMaterial } from "../model/peer.js";
import { openTunnel, parseProxyUrl } from "./proxy-tunnel.js";
import { clientTls } from "./tls-settings.js";

const PROBE_TIMEOUT_MS = 5_000;

/**
 * Whether the peer ends a fresh connection at once after the handshake. In TLS
 * 1.3 a client's handshake is complete before the server has looked at its
 * certificate; a server that does not accept it may just close. A peer that is
 * down or restarting refuses the connection or keeps it instead.
 */
export async function closesAfterHandshake(
  origin: string,
  tls: TlsMaterial,
  proxyUrl: string | null,
): Promise<boolean> {
  const { hostname, port } = new URL(origin);
  const host = hostname.replace(/^\[|\]$/g, "");
  const place = { host, port: Number(port || 443) };
  if (proxyUrl === null) return closesAfter(place, tls, {});
  const tunnel = openTunnel(parseProxyUrl(proxyUrl), place.host, place.port, PROBE_TIMEOUT_MS);
  return tunnel.then(
    (socket) => closesAfter(place, tls, { socket }),
    () => false,
  );
}

function closesAfter(
  place: { readonly host: string; readonly port: number },
  tls: TlsMaterial,
  through: { readonly socket?: Socket },
): Promise<boolean> {
  return new Promise((resolve) => {
    let secured = false;
    let heard = false;
    const socket = connect({ ...clientTls(tls), ...place, ...through }, () => {
      secured = true;
      socket.write(`GET /v1/hello HTTP/1.1\r\nHost: ${place.host}\r\nConnection: close\r\n\r\n`);
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
