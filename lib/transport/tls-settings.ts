import { X509Certificate } from "node:crypto";
import type { SecureContextOptions, TlsOptions } from "node:tls";
import type { ConnectionOptions, PeerCertificate } from "node:tls";
import { checkServerIdentity } from "node:tls";
import type { TlsMaterial } from "../model/peer.js";

/** AES-128 first: the fastest where the CPU has AES instructions. */
const CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
const SERVER_AUTH_OID = "1.3.6.1.5.5.7.3.1";

function contextOf(material: TlsMaterial): SecureContextOptions {
  return {
    cert: material.certificatePem,
    key: material.keyPem,
    ca: material.authorityPem,
    ciphers: CIPHERS,
    minVersion: "TLSv1.3",
  };
}

/** Without a certificate of our CA for client use a peer does not get past the handshake. */
export function serverTls(material: TlsMaterial): TlsOptions {
  return { ...contextOf(material), requestCert: true, rejectUnauthorized: true };
}

/** OpenSSL takes a certificate without extended key usage for anything; we do not. */
export function clientTls(material: TlsMaterial): ConnectionOptions {
  return {
    ...contextOf(material),
    rejectUnauthorized: true,
    checkServerIdentity: (host: string, certificate: PeerCertificate): Error | undefined => {
      const usages = new X509Certificate(certificate.raw).keyUsage as string[] | undefined;
      if (usages?.includes(SERVER_AUTH_OID) !== true) {
        return Object.assign(new Error("it is not for serverAuth"), { code: "INVALID_PURPOSE" });
      }
      return checkServerIdentity(host, certificate);
    },
  };
}
