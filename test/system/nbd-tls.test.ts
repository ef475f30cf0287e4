/**
 * NBD over TLS with certificates of `tidemark pki`, spoken by clients that nobody
 * here wrote: libnbd with GnuTLS, and QEMU.
 */
import { randomBytes } from "node:crypto";
import { copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { NbdServer } from "#lib/index.js";
import { memoryDevice } from "#lib/testing.js";
import { eventually } from "../support/loopback-host.js";
import { run, RunningProgram, scratchDirectory, tidemark } from "../support/program.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";

const MIB = 1 << 20;
const directory = await scratchDirectory(t);
const place = (name: string) => join(directory, name);

async function fails(t: Test, why: RegExp, program: string, ...args: readonly string[]) {
  const { exitCode, stderr } = await run(program, args);
  t.not(exitCode, 0, `${program} ${args.join(" ")}`);
  t.match(stderr, why);
}

async function issue(ca: string, out: string, ...names: readonly string[]): Promise<string> {
  const files = ["--ca", place(ca), "--out", place(out)];
  const { exitCode, stderr } = await tidemark("pki", "issue", ...files, ...names);
  if (exitCode !== 0) throw new Error(stderr);
  return place(out);
}

/** The names under which libnbd and QEMU look for a client's files. */
async function asClient(hostDirectory: string, authority = join(hostDirectory, "ca.crt")) {
  const client = `${hostDirectory}-as-client`;
  await mkdir(client);
  await symlink(authority, join(client, "ca-cert.pem"));
  await symlink(join(hostDirectory, "host.crt"), join(client, "client-cert.pem"));
  await symlink(join(hostDirectory, "host.key"), join(client, "client-key.pem"));
  return client;
}

for (const name of ["ca", "other-ca"]) await tidemark("pki", "init", "--out", place(name));
const server = await issue("ca", "server", "localhost", "127.0.0.1");
const client = await asClient(await issue("ca", "client", "vm1.example.com"));
const stranger = await asClient(
  await issue("other-ca", "stranger", "vm1.example.com"),
  join(server, "ca.crt"),
);
const nobody = place("nobody");
await mkdir(nobody);
await symlink(join(server, "ca.crt"), join(nobody, "ca-cert.pem"));

const disk = place("disk.raw");
await writeFile(disk, randomBytes(16 * MIB));

interface Served {
  /** Its own: an image is open in one server only. */
  readonly disk: string;
  readonly running: RunningProgram;
  readonly port: string;
  uriFor(certificates: string, host?: string): string;
}

let servedCount = 0;

async function serve(t: Test, ...args: readonly string[]): Promise<Served> {
  servedCount += 1;
  const own = place(`served-${servedCount}.raw`);
  await copyFile(disk, own);
  const running = await RunningProgram.start(
    t,
    ["track", "--disk", own, "--no-tracking", "--listen", "127.0.0.1:0", ...args],
    /Ctrl-C stops/,
  );
  const port = /127\.0\.0\.1:(\d+)\//.exec(running.stdout)?.[1] ?? "";
  const uriFor = (certificates: string, host = "localhost") =>
    `nbds://${host}:${port}/?tls-certificates=${certificates}`;
  return { disk: own, running, port, uriFor };
}

/** What the server tells its administrator. */
async function said(served: Served, pattern: RegExp): Promise<void> {
  await eventually(String(pattern), async () => pattern.test(served.running.stderr), 20_000);
}

const serveTls = (t: Test, ...args: readonly string[]) => serve(t, "--tls-dir", server, ...args);

function qemuArguments(served: Served, certificates: string, options = ""): string[] {
  return [
    "--object",
    `tls-creds-x509,id=tls0,endpoint=client,dir=${certificates}`,
    "--image-opts",
    `driver=nbd,host=127.0.0.1,port=${served.port},tls-creds=tls0${options}`,
  ];
}

void t.test("libnbd", { skip: await skipWithout("nbdinfo", "nbdcopy") }, async (t) => {
  const served = await serveTls(t);
  t.match(served.running.stdout, `nbds://127.0.0.1:${served.port}/`);
  const info = await succeeds(t, "nbdinfo", served.uriFor(client));
  t.match(info, "newstyle-fixed with TLS");
  const copy = place("copy.raw");
  await succeeds(t, "nbdcopy", served.uriFor(client), copy);
  t.ok((await readFile(copy)).equals(await readFile(served.disk)), "copied out");
  await writeFile(copy, randomBytes(16 * MIB));
  await succeeds(t, "nbdcopy", "--flush", copy, served.uriFor(client, "127.0.0.1"));
  t.ok((await readFile(copy)).equals(await readFile(served.disk)), "copied in");
});

void t.test("qemu-img", { skip: await skipWithout("qemu-img") }, async (t) => {
  const served = await serveTls(t);
  const image = await succeeds(t, "qemu-img", "info", ...qemuArguments(served, client));
  t.match(image, "virtual size: 16 MiB");
  const out = place("out.raw");
  await succeeds(t, "qemu-img", "convert", "-O", "raw", ...qemuArguments(served, client), out);
  t.ok((await readFile(out)).equals(await readFile(disk)), "converted out");
  await fails(t, /certificate/i, "qemu-img", "info", ...qemuArguments(served, stranger));
});

void t.test("a Unix socket", { skip: await skipWithout("nbdinfo") }, async (t) => {
  const socket = place("tls.sock");
  const running = await RunningProgram.start(
    t,
    ["track", "--disk", disk, "--no-tracking", "--socket", socket, "--tls-dir", server],
    /Ctrl-C stops/,
  );
  t.match(running.stdout, `nbds+unix:///?socket=${socket}`);
  const uri = `nbds+unix:///?socket=${socket}&tls-certificates=${client}`;
  t.match(await succeeds(t, "nbdinfo", uri), "with TLS");
});

void t.test("who is refused", { skip: await skipWithout("nbdinfo", "qemu-img") }, async (t) => {
  const served = await serveTls(t);
  await fails(t, /./, "nbdinfo", `nbd://127.0.0.1:${served.port}/`);
  await fails(t, /TLS/, "qemu-img", "info", `nbd://127.0.0.1:${served.port}/`);
  await fails(t, /./, "nbdinfo", served.uriFor(nobody));
  await said(
    served,
    /Cannot accept the client 127\.0\.0\.1:\d+: because .*did not return a certificate/,
  );
  await fails(t, /./, "nbdinfo", served.uriFor(stranger));
  await said(served, /its certificate is not accepted/);
  await succeeds(t, "nbdinfo", served.uriFor(client));

  const choosy = await serveTls(t, "--tls-allow", "vm2.example.com", "*.backup.example.com");
  await fails(t, /./, "nbdinfo", choosy.uriFor(client));
  const fitting = await serveTls(t, "--tls-allow", "vm2.example.com", "*.example.com");
  await succeeds(t, "nbdinfo", fitting.uriFor(client));
});

void t.test(
  "clients refuse a server",
  {
    skip: await skipWithout("nbdinfo", "qemu-img"),
  },
  async (t) => {
    const other = await issue("ca", "other-server", "other.example.com");
    const misnamed = await serve(t, "--tls-dir", other);
    await fails(t, /certificate verification/, "nbdinfo", misnamed.uriFor(client));
    await fails(t, /not match/, "qemu-img", "info", ...qemuArguments(misnamed, client));
    const named = qemuArguments(misnamed, client, ",tls-hostname=other.example.com");
    await succeeds(t, "qemu-img", "info", ...named);
    await said(misnamed, /Cannot accept the client/);

    const foreign = await serve(t, "--tls-dir", await issue("other-ca", "foreign", "localhost"));
    await fails(t, /certificate verification/, "nbdinfo", foreign.uriFor(client));

    const plain = await serve(t);
    await fails(t, /connection is closed/, "nbdinfo", plain.uriFor(client));
    await fails(t, /TLS/i, "qemu-img", "info", ...qemuArguments(plain, client));
  },
);

void t.test(
  "certificates are renewed by SIGHUP",
  {
    skip: await skipWithout("nbdinfo"),
  },
  async (t) => {
    const renewed = await issue("ca", "renewed", "127.0.0.1");
    const next = await issue("ca", "next", "localhost");
    const served = await serve(t, "--tls-dir", renewed);
    await fails(t, /certificate verification/, "nbdinfo", served.uriFor(client));
    await copyFile(join(next, "host.crt"), join(renewed, "host.crt"));
    served.running.child.kill("SIGHUP");
    await said(served, /stay as they were: Cannot use .*host.key/);
    await succeeds(t, "nbdinfo", served.uriFor(client, "127.0.0.1"));
    await copyFile(join(next, "host.key"), join(renewed, "host.key"));
    served.running.child.kill("SIGHUP");
    await said(served, /New connections get the certificates/);
    await succeeds(t, "nbdinfo", served.uriFor(client));
  },
);

void t.test("the command line says what it needs", async (t) => {
  const refuses = async (code: string, ...args: readonly string[]) => {
    const outcome = await tidemark("track", "--disk", disk, ...args);
    t.match(outcome.stderr, `[${code}]`);
    return outcome.stderr;
  };
  const plain = await refuses("INVALID_ARGUMENT", "--listen", "0.0.0.0:0");
  t.match(plain, "Use TLS with --tls-dir");
  const listen = ["--listen", "127.0.0.1:0"];
  await refuses("NOT_FOUND", ...listen, "--tls-dir", place("nowhere"));
  await refuses("INVALID_ARGUMENT", ...listen, "--tls-allow", "vm1.example.com");
  await refuses("INVALID_ARGUMENT", ...listen, "--tls-dir", server, "--tls-allow", "no name");
});

void t.test("the library", async (t) => {
  const tls = {
    certificatePem: await readFile(join(server, "host.crt"), "utf8"),
    keyPem: await readFile(join(server, "host.key"), "utf8"),
    authorityPem: await readFile(join(server, "ca.crt"), "utf8"),
  };
  await using served = await NbdServer.start({ host: "127.0.0.1", tls });
  served.addExport("disk 1", memoryDevice(MIB));
  t.match(served.uriOf("disk 1"), /^nbds:\/\/127\.0\.0\.1:\d+\/disk%201$/);
  served.setTls({ ...tls, allowedClients: ["*.example.com"] });
  const keyPem = await readFile(join(client, "client-key.pem"), "utf8");
  t.throws(() => served.setTls({ ...tls, keyPem }), { code: "FOREIGN" });
  await t.rejects(NbdServer.start({ host: "127.0.0.1", tls: { ...tls, keyPem: "" } }), {
    code: "CORRUPT",
  });
  const { tlsRefusalsTotal, lastTlsRefusal } = served.statistics();
  t.same([tlsRefusalsTotal, lastTlsRefusal], [0, ""]);
  await using plain = await NbdServer.start({ host: "127.0.0.1" });
  t.throws(() => plain.setTls(tls), { code: "INVALID_ARGUMENT" });
});

void t.test(
  "the addon uses its Node's OpenSSL and brings none",
  {
    skip: await skipWithout("readelf"),
  },
  async (t) => {
    const addon = fileURLToPath(new URL("../../build/Release/tidemark.node", import.meta.url));
    const needed = await succeeds(t, "readelf", "-d", addon);
    t.match(needed, "libc.so");
    t.notMatch(needed, /lib(ssl|crypto)/);
    // Lazy binding would hide a function that this Node does not have.
    const load = ["LD_BIND_NOW=1", process.execPath, "-e", `require(${JSON.stringify(addon)})`];
    await succeeds(t, "env", ...load);
  },
);
