import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import t from "tap";

const run = promisify(execFile);
const directory = await mkdtemp(join(tmpdir(), "tidemark-pki-"));
t.teardown(() => rm(directory, { recursive: true, force: true }));

const ca = join(directory, "ca");
const host = join(directory, "host");
const caFiles = await createCa(ca, { commonName: "Test CA" });
const hostFiles = await issueCertificate(ca, ["Replica1.Example.com.", "127.0.0.1", "::1"], {
  outputDirectory: host,
});

async function openssl(...args: string[]): Promise<string> {
  const { stdout } = await run("openssl", args);
  return stdout;
}

for (const purpose of ["sslserver", "sslclient"]) {
  void t.test(`openssl accepts an issued certificate as ${purpose}`, async (t) => {
    const answer = await openssl(
      "verify",
      "-x509_strict",
      "-purpose",
      purpose,
      "-CAfile",
      hostFiles.authorityPath,
      hostFiles.certificatePath,
    );
    t.match(answer, /: OK/);
  });
}

void t.test("openssl refuses a certificate that was issued for the other use only", async (t) => {
  const output = join(directory, "server-only");
  const files = await issueCertificate(ca, ["a.example"], {
    outputDirectory: output,
    uses: ["server"],
  });
  await t.rejects(
    openssl(
      "verify",
      "-purpose",
      "sslclient",
      "-CAfile",
      files.authorityPath,
      files.certificatePath,
    ),
  );
});

void t.test("openssl finds each host name in the certificate, and no other", async (t) => {
  const check = (option: string, name: string): Promise<string> =>
    openssl("x509", "-in", hostFiles.certificatePath, "-noout", option, name);
  t.match(await check("-checkhost", "replica1.example.com"), /does match/);
  t.match(await check("-checkip", "127.0.0.1"), /does match/);
  t.match(await check("-checkip", "::1"), /does match/);
  t.match(await check("-checkhost", "replica2.example.com"), /does NOT match/);
});

void t.test("keys are ECDSA P-256 and only their owner can read them", async (t) => {
  for (const path of [caFiles.keyPath, hostFiles.keyPath]) {
    t.match(await openssl("pkey", "-in", path, "-noout", "-text"), /prime256v1/);
    t.equal((await stat(path)).mode & 0o777, 0o600);
  }
});

void t.test("the CA may sign certificates and nothing below it may", async (t) => {
  const text = await openssl("x509", "-in", caFiles.certificatePath, "-noout", "-text");
  t.match(text, /CA:TRUE, pathlen:0/);
  const leaf = await openssl("x509", "-in", hostFiles.certificatePath, "-noout", "-text");
  t.match(leaf, /CA:FALSE/);
  t.match(
    leaf,
    /TLS Web Server Authentication, TLS Web Client Authentication|TLS Web Client Authentication, TLS Web Server Authentication/,
  );
});

void t.test("nothing is overwritten, and a half that exists leaves no other half", async (t) => {
  const before = await readFile(caFiles.keyPath);
  await t.rejects(createCa(ca), { code: "ALREADY_EXISTS" });
  await t.rejects(issueCertificate(ca, ["b.example"], { outputDirectory: host }), {
    code: "ALREADY_EXISTS",
  });
  t.same(await readFile(caFiles.keyPath), before);

  const half = await mkdtemp(join(directory, "half-"));
  await writeFile(join(half, "host.crt"), "somebody's");
  await t.rejects(issueCertificate(ca, ["b.example"], { outputDirectory: half }), {
    code: "ALREADY_EXISTS",
  });
  await t.rejects(stat(join(half, "host.key")), { code: "ENOENT" });
  t.equal(await readFile(join(half, "host.crt"), "utf8"), "somebody's");
});

void t.test("host names that are none are refused", async (t) => {
  const bad = [
    "",
    "a b",
    "*.example.com",
    "999.1.1.1",
    "a..b",
    "-a",
    "a,DNS:b",
    `${"x".repeat(64)}.com`,
  ];
  for (const name of bad) {
    await t.rejects(
      issueCertificate(ca, [name], { outputDirectory: join(directory, "none") }),
      { code: "INVALID_ARGUMENT" },
      name,
    );
  }
  await t.rejects(issueCertificate(ca, []), { code: "INVALID_ARGUMENT" });
});

void t.test("a directory without a CA is said to be one", async (t) => {
  await t.rejects(issueCertificate(join(directory, "nowhere"), ["a"]), { code: "NOT_FOUND" });
  const damaged = await mkdtemp(join(directory, "damaged-"));
  await writeFile(join(damaged, "ca.crt"), await readFile(caFiles.certificatePath));
  await writeFile(
    join(damaged, "ca.key"),
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
  );
  await t.rejects(issueCertificate(damaged, ["a"]), { code: "CORRUPT" });
});
