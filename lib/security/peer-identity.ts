import { X509Certificate } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import type { PeerIdentity } from "../model/peer.js";
import { canonicalAddress } from "./host-name.js";

export const SERVER_AUTH_OID = "1.3.6.1.5.5.7.3.1";
export const CLIENT_AUTH_OID = "1.3.6.1.5.5.7.3.2";

/**
 * Who the peer is that connected to us, from the DER of its certificate, whose
 * chain and validity the TLS handshake has checked. TLS accepts a certificate
 * without extended key usage for anything; we do not.
 */
export function identifyClient(certificateDer: Uint8Array | undefined): PeerIdentity {
  if (certificateDer === undefined || certificateDer.length === 0) {
    throw refused("it shows no certificate");
  }
  const certificate = new X509Certificate(certificateDer);
  const usages = (certificate.keyUsage as string[] | undefined) ?? [];
  if (!usages.includes(CLIENT_AUTH_OID)) {
    throw refused("its certificate's extended key usage does not name clientAuth");
  }
  const identity = identityOf(certificate);
  if (identity.hostNames.length === 0) {
    throw refused("its certificate names no host (subject alternative name)");
  }
  return identity;
}

export function identityOf(certificate: X509Certificate): PeerIdentity {
  return {
    hostNames: parseSubjectAltName(certificate.subjectAltName ?? ""),
    fingerprint: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

/**
 * Node prints the SAN as "DNS:a, IP Address:b"; a value that holds what would
 * be ambiguous there is a JSON string. Such a value is no host name: it is
 * passed over whole, never split.
 */
function parseSubjectAltName(text: string): string[] {
  const entries = text.match(/[^,":]+:(?:"(?:[^"\\]|\\.)*"|[^,"]*)/g) ?? [];
  return entries.flatMap((entry) => {
    const match = /^\s*(DNS|IP Address):([^"\s]+)$/.exec(entry);
    return match?.[2] === undefined ? [] : [canonicalAddress(match[2].toLowerCase())];
  });
}

function refused(reason: string): TidemarkError {
  return new TidemarkError("UNAUTHENTICATED", `Cannot accept the peer: because ${reason}.`, {
    hint: "Issue the peer a certificate with its host names, for clientAuth and serverAuth.",
  });
}
