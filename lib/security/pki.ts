/**
 * The small certificate authority of `tidemark pki`: ECDSA P-256, one level.
 *
 * A CA directory holds ca.crt and ca.key. A host directory gets host.crt,
 * host.key and a copy of ca.crt, which is all that a host needs.
 */
import "reflect-metadata";
import { createPrivateKey, randomBytes, webcrypto } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as x509 from "@peculiar/x509";
import { TidemarkError } from "../model/errors.js";
import { type CaFiles, type HostFiles, hostFiles } from "./host-files.js";
import { parseHostName } from "./host-name.js";
import { readPem } from "./pem-file.js";
import { createFiles } from "./secret-files.js";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;
/** Peers' clocks may be behind ours. */
const BACKDATE_MS = 3_600_000;

export interface CreateCaOptions {
  readonly commonName?: string;
  readonly validDays?: number;
}

/** ALREADY_EXISTS when the directory holds a CA. */
export async function createCa(directory: string, options: CreateCaOptions = {}): Promise<CaFiles> {
  const { commonName = "Tidemark CA", validDays = 3650 } = options;
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [commonName] }],
    ...validity(validDays),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const files = { certificatePath: join(directory, "ca.crt"), keyPath: join(directory, "ca.key") };
  await createFiles([
    { path: files.keyPath, content: await keyPem(keys.privateKey), mode: 0o600 },
    { path: files.certificatePath, content: certificatePem(certificate), mode: 0o644 },
  ]);
  return files;
}

export type CertificateUse = "client" | "server";

export interface IssueOptions {
  /** Default: the CA's own directory. */
  readonly outputDirectory?: string;
  readonly validDays?: number;
  /** Default both: a host is primary of some VMs and replica of others. */
  readonly uses?: readonly CertificateUse[];
}

/** A certificate for the host that is reached under these DNS names and IP addresses. */
export async function issueCertificate(
  caDirectory: string,
  hostNames: readonly string[],
  options: IssueOptions = {},
): Promise<HostFiles> {
  const names = hostNames.map(parseHostName);
  if (names.length === 0) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot issue a certificate: because no host name is given.",
      { hint: "Name the DNS names and IP addresses at which the host is reached." },
    );
  }
  const output = options.outputDirectory ?? caDirectory;
  const authority = await loadAuthority(caDirectory);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await signHost(authority, keys.publicKey, names, options);
  await mkdir(output, { recursive: true, mode: 0o700 });
  const files = hostFiles(output);
  const copiesAuthority = resolve(output) !== resolve(caDirectory);
  await createFiles([
    { path: files.keyPath, content: await keyPem(keys.privateKey), mode: 0o600 },
    { path: files.certificatePath, content: certificatePem(certificate), mode: 0o644 },
    ...(copiesAuthority
      ? [{ path: files.authorityPath, content: certificatePem(authority.certificate), mode: 0o644 }]
      : []),
  ]);
  return files;
}

interface Authority {
  readonly certificate: x509.X509Certificate;
  readonly key: webcrypto.CryptoKey;
}

async function loadAuthority(directory: string): Promise<Authority> {
  const certificate = await readPem(join(directory, "ca.crt"), "CA certificate");
  const key = await readPem(join(directory, "ca.key"), "CA key");
  try {
    const der = createPrivateKey(key).export({ format: "der", type: "pkcs8" });
    return {
      certificate: new x509.X509Certificate(certificate),
      key: await webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]),
    };
  } catch (cause) {
    throw new TidemarkError(
      "CORRUPT",
      `Cannot use the CA in ${directory}: because its files do not hold an ECDSA P-256 CA.`,
      { hint: "Give the directory that `tidemark pki init` made.", cause },
    );
  }
}

async function signHost(
  authority: Authority,
  publicKey: webcrypto.CryptoKey,
  names: readonly string[],
  options: IssueOptions,
): Promise<x509.X509Certificate> {
  const uses = options.uses ?? ["client", "server"];
  return x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [(names[0] ?? "").slice(0, 64)] }],
    issuer: authority.certificate.subjectName,
    ...validity(options.validDays ?? 825),
    signingAlgorithm: ALGORITHM,
    publicKey,
    signingKey: authority.key,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(uses.map(usageOid)),
      new x509.SubjectAlternativeNameExtension(names.map(generalName)),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  });
}

function usageOid(use: CertificateUse): x509.ExtendedKeyUsage {
  return use === "client" ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth;
}

function generalName(name: string): x509.JsonGeneralName {
  return { type: /^[0-9.]+$|:/.test(name) ? "ip" : "dns", value: name };
}

function validity(validDays: number): { notBefore: Date; notAfter: Date } {
  const nowMs = Date.now();
  return {
    notBefore: new Date(Math.min(nowMs, nowMs + validDays * DAY_MS) - BACKDATE_MS),
    notAfter: new Date(nowMs + validDays * DAY_MS),
  };
}

/** Positive and at most 20 octets, as RFC 5280 section 4.1.2.2 asks. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString("hex");
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey("pkcs8", key);
  return `${x509.PemConverter.encode(der, x509.PemConverter.PrivateKeyTag)}\n`;
}

function certificatePem(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem")}\n`;
}
