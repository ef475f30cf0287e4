import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { TidemarkError } from "../model/errors.js";
import type { TlsMaterial } from "../model/peer.js";
import { networkError } from "./network-error.js";
import { clientTls } from "./tls-settings.js";

const HANDSHAKE_TIMEOUT_MS = 10_000;
const DAY_MS = 86_400_000;
const SOON_DAYS = 30;

/** Takes the connection over for a handshake, and says what is to be said of both ends' certificates. */
export async function inspectCertificate(
  socket: Socket,
  host: string,
  tls: TlsMaterial,
  nowMs: number,
): Promise<{ readonly detail: string; readonly hint?: string }> {
  const raw = await handshake(socket, host, tls);
  const certificate = new X509Certificate(raw);
  const ours = new X509Certificate(tls.certificatePem);
  const detail = `TLS 1.3; the peer's certificate is valid until ${dayOf(certificate)}, this host's until ${dayOf(ours)}.`;
  const [first] = [certificate, ours]
    .map((one) => ({ one, leftDays: (Date.parse(one.validTo) - nowMs) / DAY_MS }))
    .filter(({ leftDays }) => leftDays < SOON_DAYS);
  if (first === undefined) return { detail };
  const whose = first.one === ours ? "this host" : "the peer";
  const left = `${Math.max(0, Math.floor(first.leftDays))} days`;
  return { detail, hint: `Issue ${whose} a new certificate: it expires within ${left}.` };
}

/** Answers the peer's certificate. The checks are those of every connection (tls-settings.ts). */
function handshake(socket: Socket, host: string, tls: TlsMaterial): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const secure: TLSSocket = connect({ ...clientTls(tls), socket, host, ...nameOf(host) }, () => {
      const { raw } = secure.getPeerCertificate();
      resolve(raw);
      // Not destroyed: the peer would take that for a handshake that broke off.
      secure.resume().end();
    });
    secure.setTimeout(HANDSHAKE_TIMEOUT_MS, () => {
      secure.destroy(Object.assign(new Error("silent"), { code: "ETIMEDOUT" }));
    });
    secure.on("error", (thrown) => reject(networkError(thrown, "trust the peer", host)));
    secure.once("close", () => reject(closedEarly(host)));
  });
}

/** An address is no server name in TLS. */
function nameOf(host: string): { readonly servername?: string } {
  return /^[0-9.]+$|:/.test(host) ? {} : { servername: host };
}

function dayOf({ validTo }: X509Certificate): string {
  return new Date(validTo).toISOString().slice(0, 10);
}

function closedEarly(host: string): TidemarkError {
  return new TidemarkError(
    "UNREACHABLE",
    `Cannot trust the peer: because ${host} closed the connection during the TLS handshake.`,
    { hint: "Check that address and port are those of a Tidemark host." },
  );
}
