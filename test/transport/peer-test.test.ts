/** What an administrator learns about a peer before anything is enabled. */
import { createServer as createTlsServer } from "node:https";
import { createServer, type AddressInfo } from "node:net";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import type { PeerDescription, TlsMaterial } from "#lib/model/peer.js";
import { PEER_TEST_STEPS, type PeerTestReport } from "#lib/model/peer-test.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import type { PeerServerOptions } from "#lib/transport/peer-server.js";
import { testPeer, type PeerTestOptions } from "#lib/transport/peer-test.js";
import { ConnectProxy } from "../support/connect-proxy.js";
import { HashingReplica, newLanes, startServer, testPki } from "./hosts.js";

const pki = await testPki();
const lanes = newLanes(1, 1);
const replica = new HashingReplica();
const description: PeerDescription = {
  hostName: "r.example",
  softwareVersion: "1.2.3",
  acceptsReplicas: true,
  freeBytes: 50 * 2 ** 30,
};
t.teardown(async () => {
  await lanes.close();
  await pki.remove();
});

async function peer(t: Test, options: Partial<PeerServerOptions> = {}): Promise<string> {
  const server = await startServer(pki, replica, { describe: async () => description, ...options });
  t.teardown(() => server.close());
  return `https://127.0.0.1:${server.port}`;
}

function look(url: string, options: Partial<PeerTestOptions> = {}): Promise<PeerTestReport> {
  return testPeer({ url, proxyUrl: null, tls: pki.primary, lanes, ...options });
}

/** The step fails with such a detail and says what to do; what follows is not tried. */
function failsAt(t: Test, report: PeerTestReport, step: string, detail: RegExp, hint: RegExp) {
  const at = report.steps.findIndex((one) => one.step === step);
  const outcomes = report.steps.map(({ outcome }) => outcome);
  t.same(
    outcomes.slice(0, at).filter((one) => one === "failed" || one === "not tried"),
    [],
  );
  t.match(report.steps[at], { outcome: "failed", detail, hint }, step);
  t.same(new Set(outcomes.slice(at + 1)), new Set(at + 1 < outcomes.length ? ["not tried"] : []));
  t.equal(report.isReady, false);
}

void t.test("a peer that is ready", async (t) => {
  const warnings: string[] = [];
  const url = await peer(t, { onWarning: (message) => warnings.push(message) });
  const report = await look(url);
  // What the peer has to say of the first test's end it says before it answers a second one.
  await look(url);
  t.same(warnings, [], "it leaves nothing in the peer's log");
  t.same(
    report.steps.map(({ step, outcome, hint }) => [step, outcome, hint]),
    PEER_TEST_STEPS.map((step) => [step, "ok", null]),
  );
  t.match(report, { isReady: true, hostName: "r.example", softwareVersion: "1.2.3" });
  t.equal(report.freeBytes, description.freeBytes);
  t.match(report.steps.at(-1)?.detail, /50\.0 GiB/);
});

void t.test("a name that does not resolve", async (t) => {
  const report = await look("https://nowhere.invalid:8461");
  failsAt(t, report, "name", /nowhere\.invalid.*does not resolve/, /DNS/);
});

void t.test("a port where nothing listens", async (t) => {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  const report = await look(`https://127.0.0.1:${port}`);
  failsAt(t, report, "route", /nothing listens there \(ECONNREFUSED\)/, /Start the host there/);
});

async function materialOf(
  caDirectory: string,
  name: string,
  options: object,
  names = ["127.0.0.1"],
) {
  const outputDirectory = join(pki.directory, name);
  const files = await issueCertificate(caDirectory, names, { outputDirectory, ...options });
  const authorityPem = pki.primary.authorityPem;
  const certificatePem = await readFile(files.certificatePath, "utf8");
  return { certificatePem, keyPem: await readFile(files.keyPath, "utf8"), authorityPem };
}

async function impostor(t: Test, tls: TlsMaterial): Promise<string> {
  const server = createTlsServer({ cert: tls.certificatePem, key: tls.keyPem }, () =>
    t.fail("nothing is asked before the certificate is accepted"),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => void server.close());
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

void t.test("certificates that are not to be trusted", async (t) => {
  const otherCa = join(pki.directory, "other-ca");
  await createCa(otherCa);
  const foreign = await impostor(t, await materialOf(otherCa, "foreign", {}));
  failsAt(t, await look(foreign), "certificate", /not accepted/, /same CA/);
  const named = await materialOf(pki.caDirectory, "named", {}, ["elsewhere.example"]);
  const elsewhere = await impostor(t, named);
  failsAt(t, await look(elsewhere), "certificate", /ALTNAME/, /host names in the peer's/);
  const old = await impostor(t, await materialOf(pki.caDirectory, "old", { validDays: -1 }));
  failsAt(t, await look(old), "certificate", /EXPIRED/, /valid certificates/);
  const client = await materialOf(pki.caDirectory, "client", { uses: ["client"] });
  failsAt(t, await look(await impostor(t, client)), "certificate", /PURPOSE/, /certificate/);
});

void t.test("what speaks no TLS, or hangs up", async (t) => {
  const plain = createServer((socket) => socket.on("error", () => {}).end("220 smtp\r\n"));
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  t.teardown(() => void plain.close());
  const url = `https://127.0.0.1:${(plain.address() as AddressInfo).port}`;
  failsAt(t, await look(url), "certificate", /TLS|closed|ECONNRESET/, /.+/);
});

void t.test("a certificate that expires soon is a warning, on either side", async (t) => {
  const url = await peer(t);
  const lateMs = Date.now() + 800 * 86_400_000;
  const report = await look(url, { nowMs: lateMs });
  const step = report.steps.find((one) => one.step === "certificate");
  t.match(step, {
    outcome: "warning",
    hint: /the peer a new certificate: it expires within 2\d days/,
  });
  t.equal(report.isReady, true);
  const tls = await materialOf(pki.caDirectory, "short", { validDays: 3 });
  const own = (await look(url, { tls })).steps.find((one) => one.step === "certificate");
  t.match(own, { outcome: "warning", hint: /this host a new certificate/ });
});

void t.test("a peer that does not take our certificate", async (t) => {
  const otherCa = join(pki.directory, "our-other-ca");
  await createCa(otherCa);
  const report = await look(await peer(t), { tls: await materialOf(otherCa, "stranger", {}) });
  failsAt(t, report, "version", /does not accept this host's certificate/, /certificate/);
});

void t.test("a peer of another version", async (t) => {
  const { certificatePem: cert, keyPem: key, authorityPem: ca } = pki.replica;
  const hello = { product: "tidemark", protocolVersions: [7], deltaFormatVersions: [1] };
  const later = createTlsServer({ cert, key, ca, requestCert: true }, (_, response) =>
    response.end(JSON.stringify(hello)),
  );
  await new Promise<void>((resolve) => later.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    later.closeAllConnections();
    later.close();
  });
  const url = `https://127.0.0.1:${(later.address() as AddressInfo).port}`;
  failsAt(t, await look(url), "version", /version 1 and the replica 7/, /same version/);
});

void t.test("a peer that accepts no replicas", async (t) => {
  const describe = async () => ({ ...description, acceptsReplicas: false, freeBytes: null });
  const report = await look(await peer(t, { describe }));
  failsAt(t, report, "accepting", /r\.example.*accepts no replicas/, /host accept-replicas on/);
});

void t.test("a peer at which this host may not replicate still says hello", async (t) => {
  const replicaFor = () => {
    throw new TidemarkError("FORBIDDEN", "Cannot replicate here: because p is not listed.", {
      hint: "Add an entry.",
    });
  };
  const report = await look(await peer(t, { replicaFor }));
  failsAt(t, report, "permission", /p is not listed/, /Add an entry/);
});

void t.test("a peer without room", async (t) => {
  const url = await peer(t);
  const needed = await look(url, { neededBytes: 60 * 2 ** 30 });
  failsAt(t, needed, "space", /60\.0 GiB are needed and 50\.0 GiB are free/, /room/);
  const describe = async () => ({ ...description, freeBytes: 2 ** 20 });
  const little = await look(await peer(t, { describe }));
  t.match(little.steps.at(-1), { outcome: "warning", hint: /Make room/ });
});

void t.test("through a proxy, and a proxy that is not there", async (t) => {
  const url = await peer(t);
  const proxy = await ConnectProxy.start();
  t.teardown(() => proxy.close());
  const report = await look(url, { proxyUrl: proxy.url });
  t.equal(report.isReady, true);
  t.match(report.steps[1]?.detail, `by way of ${proxy.url}`);
  t.ok(proxy.tunnels.length >= 2, "the test's own connection and the hello");
  const lost = await look(url, { proxyUrl: "http://127.0.0.1:9" });
  failsAt(t, lost, "route", /proxy .*cannot be reached/, /--proxy/);
});

void t.test("an earlier version that does not describe itself is taken as it is", async (t) => {
  const report = await look(await peer(t, { describe: undefined as never }));
  t.equal(report.isReady, true);
  t.match(report.steps.find((one) => one.step === "accepting")?.detail, /does not say/);
});
