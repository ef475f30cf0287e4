import "reflect-metadata";
import { X509Certificate, webcrypto } from "node:crypto";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { identifyClient } from "#lib/security/peer-identity.js";
import { type HostFiles, hostFiles } from "#lib/security/host-files.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { loadTlsIdentity } from "#lib/security/tls-identity.js";
import * as x509 from "@peculiar/x509";
import t from "tap";

const DAY_MS = 86_400_000;
const directory = await mkdtemp(join(tmpdir(), "tidemark-identity-"));
t.teardown(() => rm(directory, { recursive: true, force: true }));

const ca = join(directory, "ca");
await createCa(ca);
const good = await issueCertificate(ca, ["p1.example.com", "127.0.0.1", "::1"], {
  outputDirectory: join(directory, "good"),
});

/** The good files, with some replaced. */
async function variant(name: string, replaced: Partial<HostFiles>): Promise<HostFiles> {
  const files = hostFiles(await mkdtemp(join(directory, `${name}-`)));
  for (const key of ["certificatePath", "keyPath", "authorityPath"] as const) {
    await copyFile(replaced[key] ?? good[key], files[key]);
  }
  return files;
}

async function derOf(files: HostFiles): Promise<Uint8Array> {
  return new X509Certificate(await readFile(files.certificatePath)).raw;
}

void t.test("files that fit are an identity with the certificate's host names", async (t) => {
  const identity = await loadTlsIdentity(good);
  t.same(identity.hostNames, ["p1.example.com", "127.0.0.1", "::1"]);
  t.match(identity.fingerprint, /^[0-9a-f]{64}$/);
  t.ok(identity.notAfterMs > Date.now() + 800 * DAY_MS);
});

void t.test("a missing file is NOT_FOUND and named", async (t) => {
  for (const key of ["certificatePath", "keyPath", "authorityPath"] as const) {
    const files = { ...good, [key]: join(directory, "absent.pem") };
    await t.rejects(loadTlsIdentity(files), { code: "NOT_FOUND", message: /absent\.pem/ });
  }
});

void t.test("the key of another certificate is FOREIGN", async (t) => {
  const other = await issueCertificate(ca, ["x"], { outputDirectory: join(directory, "other") });
  const files = await variant("key", { keyPath: other.keyPath });
  await t.rejects(loadTlsIdentity(files), { code: "FOREIGN", message: /not the key of/ });
});

void t.test("a certificate of another CA is FOREIGN", async (t) => {
  const otherCa = await createCa(join(directory, "ca2"));
  const files = await variant("ca", { authorityPath: otherCa.certificatePath });
  await t.rejects(loadTlsIdentity(files), { code: "FOREIGN", message: /not issued by/ });
});

void t.test(
  "an expired certificate and one of the future are refused by their dates",
  async (t) => {
    await t.rejects(loadTlsIdentity(good, Date.now() + 826 * DAY_MS), {
      code: "INVALID_ARGUMENT",
      message: /expired on/,
    });
    await t.rejects(loadTlsIdentity(good, Date.now() - DAY_MS), {
      code: "INVALID_ARGUMENT",
      message: /only from/,
    });
  },
);

void t.test("a certificate for one use only is refused", async (t) => {
  for (const use of ["client", "server"] as const) {
    const files = await issueCertificate(ca, ["x"], {
      outputDirectory: join(directory, use),
      uses: [use],
    });
    await t.rejects(loadTlsIdentity(files), { message: /extended key usage/ });
  }
});

void t.test("what is no PEM, no certificate or no key is CORRUPT", async (t) => {
  const text = join(directory, "text.pem");
  await writeFile(text, "hello");
  for (const key of ["certificatePath", "keyPath", "authorityPath"] as const) {
    await t.rejects(loadTlsIdentity(await variant("text", { [key]: text })), { code: "CORRUPT" });
  }
  const swapped = await variant("swap", { certificatePath: good.keyPath });
  await t.rejects(loadTlsIdentity(swapped), { code: "CORRUPT", message: /holds no certificate/ });
  const noKey = await variant("nokey", { keyPath: good.certificatePath });
  await t.rejects(loadTlsIdentity(noKey), { code: "CORRUPT", message: /private key/ });
});

void t.test("a peer is known by its certificate's names", async (t) => {
  const identity = identifyClient(await derOf(good));
  t.same(identity.hostNames, ["p1.example.com", "127.0.0.1", "::1"]);
});

void t.test("a peer without a certificate, or with one for servers only, is refused", async (t) => {
  t.throws(() => identifyClient(undefined), { code: "UNAUTHENTICATED" });
  t.throws(() => identifyClient(new Uint8Array()), { code: "UNAUTHENTICATED" });
  const serverOnly = await derOf(hostFiles(join(directory, "server")));
  t.throws(() => identifyClient(serverOnly), { code: "UNAUTHENTICATED", message: /clientAuth/ });
});

void t.test("a name that would read as two in the certificate's text is neither", async (t) => {
  const keys = await webcrypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
  ]);
  const forged = await x509.X509CertificateGenerator.createSelfSigned({
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    keys,
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension([
        { type: "dns", value: "evil.example,DNS:p1.example.com" },
        { type: "dns", value: "own.example" },
      ]),
    ],
  });
  const identity = identifyClient(new Uint8Array(forged.rawData));
  t.same(identity.hostNames, ["own.example"]);
});
