import { X509Certificate, createPrivateKey, type KeyObject } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import type { PeerIdentity, TlsMaterial } from "../model/peer.js";
import type { HostFiles } from "./host-files.js";
import { readPem } from "./pem-file.js";
import { CLIENT_AUTH_OID, SERVER_AUTH_OID, identityOf } from "./peer-identity.js";

/** This host's certificate, key and accepted CA, known to fit together. */
export interface TlsIdentity extends PeerIdentity {
  readonly material: TlsMaterial;
  readonly notAfterMs: number;
}

/**
 * NOT_FOUND (a file), CORRUPT (not what it should be), FOREIGN (key or CA of
 * another certificate), INVALID_ARGUMENT (expired, not yet valid, wrong usage).
 */
export async function loadTlsIdentity(files: HostFiles, nowMs = Date.now()): Promise<TlsIdentity> {
  const material: TlsMaterial = {
    certificatePem: await readPem(files.certificatePath, "certificate"),
    keyPem: await readPem(files.keyPath, "private key"),
    authorityPem: await readPem(files.authorityPath, "CA certificate"),
  };
  const chain = parseCertificates(material.certificatePem, files.certificatePath);
  const authorities = parseCertificates(material.authorityPem, files.authorityPath);
  const leaf = chain[0];
  if (leaf === undefined) throw notACertificate(files.certificatePath);
  if (!leaf.checkPrivateKey(parseKey(material.keyPem, files.keyPath))) throw keyOfAnother(files);
  checkTime(leaf, files.certificatePath, nowMs);
  checkUsage(leaf, files.certificatePath);
  checkChain(leaf, chain, authorities, files);
  for (const authority of authorities) checkTime(authority, files.authorityPath, nowMs);
  return { ...identityOf(leaf), material, notAfterMs: Date.parse(leaf.validTo) };
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function parseCertificates(pem: string, path: string): X509Certificate[] {
  try {
    const certificates = [...pem.matchAll(PEM_CERTIFICATE)].map(
      ([text]) => new X509Certificate(text),
    );
    if (certificates.length > 0) return certificates;
  } catch (cause) {
    throw notACertificate(path, cause);
  }
  throw notACertificate(path);
}

function parseKey(pem: string, path: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new TidemarkError(
      "CORRUPT",
      `Cannot use ${path}: because it does not hold an unencrypted private key.`,
      { hint: "Give a private key in PEM format, without a passphrase.", cause },
    );
  }
}

function notACertificate(path: string, cause?: unknown): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot use ${path}: because it holds no certificate.`, {
    hint: "Give an X.509 certificate in PEM format.",
    cause,
  });
}

function keyOfAnother(files: HostFiles): TidemarkError {
  return new TidemarkError(
    "FOREIGN",
    `Cannot use ${files.keyPath}: because it is not the key of ${files.certificatePath}.`,
    { hint: "Give the key that was made with the certificate, or issue a new pair." },
  );
}

function checkTime(certificate: X509Certificate, path: string, nowMs: number): void {
  const hint = "Issue a new certificate, and check this host's clock.";
  if (nowMs > Date.parse(certificate.validTo)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${path}: because it expired on ${certificate.validTo}.`,
      { hint },
    );
  }
  if (nowMs < Date.parse(certificate.validFrom)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${path}: because it is valid only from ${certificate.validFrom} on.`,
      { hint },
    );
  }
}

function checkUsage(leaf: X509Certificate, path: string): void {
  // Node names the extended key usages "keyUsage"; undefined where there are none.
  const usages = (leaf.keyUsage as string[] | undefined) ?? [];
  if (usages.includes(CLIENT_AUTH_OID) && usages.includes(SERVER_AUTH_OID)) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${path}: because its extended key usage does not name both clientAuth and serverAuth.`,
    {
      hint: "Issue a certificate for both uses: a host is a client of some peers, a server of others.",
    },
  );
}

function checkChain(
  leaf: X509Certificate,
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  files: HostFiles,
): void {
  let current = leaf;
  for (let depth = 0; depth <= chain.length; depth += 1) {
    if (authorities.some((authority) => isIssuedBy(current, authority))) return;
    const issuer = chain.find((one) => one !== current && isIssuedBy(current, one));
    if (issuer === undefined) break;
    current = issuer;
  }
  throw new TidemarkError(
    "FOREIGN",
    `Cannot use ${files.certificatePath}: because it was not issued by the CA in ${files.authorityPath}.`,
    { hint: "Give the CA that issued the certificate, with its intermediate certificates." },
  );
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
