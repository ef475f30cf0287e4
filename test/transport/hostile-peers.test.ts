/** Peers without the right to be there, and peers that send what no client of ours sends. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer as createPlainServer } from "node:http";
import { createServer, request as httpsRequest, type RequestOptions } from "node:https";
import { type AddressInfo, connect as tcpConnect } from "node:net";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import type { TlsMaterial } from "#lib/model/peer.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { readFile } from "node:fs/promises";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import t from "tap";
import zstd from "zstd-napi";
import {
  connectTo,
  generatedSource,
  HashingReplica,
  newHeader,
  newLanes,
  startServer,
  testPki,
  until,
} from "./hosts.js";

const MIB = 1024 * 1024;
const pki = await testPki();
const lanes = newLanes();
const warnings: string[] = [];
let replica = new HashingReplica();
const server = await startServer(pki, replica, {
  replicaFor: () => replica,
  onWarning: (message) => warnings.push(message),
  limits: { headersTimeoutMs: 1000, idleTimeoutMs: 400, handshakeTimeoutMs: 1000 },
});
const client = connectTo(server, pki, lanes);
let header = newHeader();

t.beforeEach(async () => {
  replica = new HashingReplica();
  header = newHeader();
  await client.openDelta(header);
});
// Whatever a test did to the server, it goes on serving.
t.afterEach(async () => {
  const small = { seed: 1, pieceBytes: 4096, pieceCount: 1 };
  await client.openDelta(header);
  await client.putSegment(generatedSource(header.deltaId, 9, small));
  await until(() => replica.openSlots.size === 0);
});
t.teardown(async () => {
  await client.close();
  await lanes.close();
  await server.close();
  await pki.remove();
});

async function materialOf(
  caDirectory: string,
  name: string,
  options: { validDays?: number; uses?: ("client" | "server")[]; hostNames?: string[] } = {},
): Promise<TlsMaterial> {
  const { hostNames = ["127.0.0.1"], ...issueOptions } = options;
  const outputDirectory = join(pki.directory, name);
  const files = await issueCertificate(caDirectory, hostNames, {
    outputDirectory,
    ...issueOptions,
  });
  return {
    certificatePem: await readFile(files.certificatePath, "utf8"),
    keyPem: await readFile(files.keyPath, "utf8"),
    authorityPem: pki.primary.authorityPem,
  };
}

async function otherCa(): Promise<string> {
  const directory = join(pki.directory, `ca-${randomBytes(4).toString("hex")}`);
  await createCa(directory);
  return directory;
}

async function expectRefused(t: Test, tls: TlsMaterial): Promise<void> {
  const stranger = connectTo(server, pki, lanes, { tls });
  await t.rejects(stranger.status(header.vmId), {
    code: "UNAUTHENTICATED",
    retryable: false,
    message: /does not accept this host's certificate/,
    hint: /certificate/,
  });
  await t.rejects(stranger.openDelta(header), { code: "UNAUTHENTICATED" });
  await stranger.close();
}
type Test = typeof t;

void t.test("a certificate of another CA does not get past the handshake", async (t) => {
  await expectRefused(t as Test, await materialOf(await otherCa(), "foreign"));
  await until(() => warnings.some((warning) => /did not pass the TLS handshake/.test(warning)));
});

void t.test("an expired certificate does not get past the handshake", async (t) => {
  await expectRefused(t as Test, await materialOf(pki.caDirectory, "old", { validDays: -1 }));
});

void t.test("a certificate for servers only does not get past the handshake", async (t) => {
  await expectRefused(t as Test, await materialOf(pki.caDirectory, "so", { uses: ["server"] }));
});

void t.test("no certificate does not get past the handshake", async (t) => {
  const bare = { ca: pki.primary.authorityPem, host: "127.0.0.1", port: server.port };
  const answer = await raw({ ...bare, path: "/v1/hello" }).catch((error: Error) => error);
  t.ok(answer instanceof Error, "there is no answer");
  t.match((answer as NodeJS.ErrnoException).code, /CERTIFICATE_REQUIRED|ECONNRESET/);
});

void t.test("TLS 1.2 does not get past the handshake", async (t) => {
  const socket = tlsConnect({ ...rawTls(), maxVersion: "TLSv1.2" });
  const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
  t.match(error.code, /PROTOCOL_VERSION/);
});

void t.test("a replica whose certificate is not for its address is not believed", async (t) => {
  const tls = await materialOf(pki.caDirectory, "elsewhere", { hostNames: ["other.example"] });
  await expectNotBelieved(t as Test, tls, /ALTNAME/);
});

void t.test("a replica with a certificate of another CA is not believed", async (t) => {
  await expectNotBelieved(t as Test, await materialOf(await otherCa(), "fake"), /VERIFY|ISSUER/);
});

void t.test("a replica with a certificate for clients only is not believed", async (t) => {
  const tls = await materialOf(pki.caDirectory, "co", { uses: ["client"] });
  await expectNotBelieved(t as Test, tls, /PURPOSE/);
});

async function expectNotBelieved(t: Test, tls: TlsMaterial, reason: RegExp): Promise<void> {
  let requestCount = 0;
  const impostor = createServer({ cert: tls.certificatePem, key: tls.keyPem }, () => {
    requestCount += 1;
  });
  await new Promise<void>((resolve) => impostor.listen(0, "127.0.0.1", resolve));
  const { port } = impostor.address() as AddressInfo;
  const replicaUrl = `https://127.0.0.1:${port}`;
  const endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls: () => pki.primary, lanes });
  await t.rejects(endpoint.status(header.vmId), { code: "UNAUTHENTICATED", message: reason });
  await endpoint.close();
  impostor.close();
  t.equal(requestCount, 0);
}

void t.test(
  "a replica that is down, or none at all, is UNREACHABLE and worth a retry",
  async (t) => {
    const closed = await startServer(pki, replica);
    const endpoint = connectTo(closed, pki, lanes);
    await endpoint.openDelta(header);
    await closed.close();
    const expected = { code: "UNREACHABLE", retryable: true };
    await t.rejects(endpoint.status(header.vmId), expected);
    const small = { seed: 1, pieceBytes: 4096, pieceCount: 1 };
    await t.rejects(endpoint.putSegment(generatedSource(header.deltaId, 0, small)), expected);
    await endpoint.close();

    const plain = createPlainServer((_, response) => response.end("hello"));
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
    const replicaUrl = `https://127.0.0.1:${(plain.address() as AddressInfo).port}`;
    const stranger = new HttpsReplicaEndpoint({ replicaUrl, tls: () => pki.primary, lanes });
    await t.rejects(stranger.status(header.vmId), { ...expected, message: /TLS/ });
    await stranger.close();
    plain.close();
  },
);

void t.test("addresses and levels that cannot be are refused at once", async (t) => {
  const make = (replicaUrl: string, compressionLevel = 1) =>
    new HttpsReplicaEndpoint({ replicaUrl, compressionLevel, tls: () => pki.primary, lanes });
  for (const url of ["", "http://a:1", "https://a:1/x", "https://u:p@a:1", "a:1"]) {
    t.throws(() => make(url), { code: "INVALID_ARGUMENT" }, url);
  }
  for (const level of [0, 20, 1.5]) {
    t.throws(() => make("https://a:1", level), { code: "INVALID_ARGUMENT" });
  }
});

void t.test("garbage on the port, before and inside TLS, is dropped", async (t) => {
  for (const garbage of [
    randomBytes(5000),
    Buffer.from("GET / HTTP/1.1\r\n\r\n"),
    Buffer.alloc(1),
  ]) {
    const socket = tcpConnect(server.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write(garbage);
    await once(socket, "close");
  }
  for (const garbage of [
    randomBytes(5000),
    "PUT\0 /\r\n\r\n",
    "GET / HTTP/1.1\r\nA: ".padEnd(90_000),
  ]) {
    const socket = tlsConnect(rawTls(), () => socket.write(garbage));
    socket.on("error", () => undefined);
    socket.resume();
    await once(socket, "close");
  }
  t.pass("the server goes on, see afterEach");
});

void t.test("who connects and says nothing is disconnected", async () => {
  const silent = tcpConnect(server.port, "127.0.0.1");
  const silentInTls = tlsConnect(rawTls());
  silent.resume();
  silentInTls.resume();
  silent.on("error", () => undefined);
  silentInTls.on("error", () => undefined);
  await Promise.all([once(silent, "close"), once(silentInTls, "close")]);
});

// Hand-made requests from here on.

function rawTls() {
  const { certificatePem: cert, keyPem: key, authorityPem: ca } = pki.primary;
  return { cert, key, ca, host: "127.0.0.1", port: server.port };
}

interface RawAnswer {
  readonly status: number;
  readonly body: { readonly code?: string; readonly message?: string };
}

function raw(
  options: RequestOptions,
  body?: Uint8Array | string,
  trailers: Record<string, string> = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({ agent: false, ...options });
    request.on("error", reject);
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        text += piece;
      });
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as RawAnswer["body"] });
        request.destroy();
      });
    });
    if (body !== undefined) request.write(body);
    request.addTrailers(trailers);
    request.end();
  });
}

function segmentPath(index: number | string, attempt: number | string = 1): string {
  const { vmId, deltaId } = header;
  return `/v1/vms/${vmId}/deltas/${deltaId}/attempts/${attempt}/segments/${index}`;
}

interface PutOptions {
  readonly contentBytes?: number | string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly sha256?: string | null;
  readonly plain?: Uint8Array;
}

function put(body: Uint8Array, options: PutOptions = {}): Promise<RawAnswer> {
  const { contentBytes = 8192, path = segmentPath(0), plain = Buffer.alloc(0) } = options;
  const sha256 = options.sha256 ?? createHash("sha256").update(plain).digest("hex");
  const headers = {
    "content-encoding": "zstd",
    "x-tidemark-content-bytes": String(contentBytes),
    ...options.headers,
  };
  return raw(
    { ...rawTls(), method: "PUT", path, headers },
    body,
    options.sha256 === null ? {} : { "x-tidemark-sha256": sha256 },
  );
}

const content = randomBytes(8192);
const packed = zstd.compress(content);

void t.test(
  "a hand-made segment is taken: the refusals below are for their own reasons",
  async (t) => {
    const answer = await put(packed, { plain: content });
    t.equal(answer.status, 200);
    t.equal(replica.completed.size, 1);
  },
);

void t.test("segments that break a rule are refused by name and leave nothing", async (t) => {
  const deep = zstd.compress(Buffer.alloc(64 * MIB));
  const cases: [string, number, string, Promise<RawAnswer>][] = [
    ["a decompression bomb", 413, "LIMIT_REACHED", put(deep)],
    ["a body longer than its content", 413, "LIMIT_REACHED", put(randomSkippable(3 * MIB))],
    ["bytes that are no zstd", 422, "CORRUPT", put(randomBytes(9000))],
    ["a stream that ends early", 422, "TRUNCATED", put(packed.subarray(0, 4000))],
    ["nothing at all", 422, "TRUNCATED", put(Buffer.alloc(0))],
    ["another digest", 422, "CORRUPT", put(packed, { plain: Buffer.from("x") })],
    ["no digest", 400, "INVALID_ARGUMENT", put(packed, { sha256: null })],
    [
      "no zstd by its own word",
      415,
      "UNSUPPORTED",
      put(packed, { headers: { "content-encoding": "gzip" } }),
    ],
    ["too much content", 400, "INVALID_ARGUMENT", put(packed, { contentBytes: 65 * MIB })],
    ["no content", 400, "INVALID_ARGUMENT", put(packed, { contentBytes: 0 })],
    ["no number", 400, "INVALID_ARGUMENT", put(packed, { contentBytes: "1e3" })],
    ["a negative index", 404, "NOT_FOUND", put(packed, { path: segmentPath("..") })],
    [
      "an index too large",
      400,
      "INVALID_ARGUMENT",
      put(packed, { path: segmentPath("99999999999") }),
    ],
    ["attempt 0", 400, "INVALID_ARGUMENT", put(packed, { path: segmentPath(0, 0) })],
    [
      "a VM that is no UUID",
      400,
      "INVALID_ARGUMENT",
      put(packed, { path: segmentPath(0).replace(header.vmId, "vm1") }),
    ],
  ];
  for (const [what, status, code, answer] of cases) {
    t.match(await answer, { status, body: { code, message: /^Cannot .*\.$/ } }, what);
  }
  t.equal(replica.completed.size, 0);
  t.equal(replica.aborted.length, replica.reserved.length);
  t.equal(replica.openSlots.size, 0);
  t.ok(replica.writtenBytes < MIB, "the bomb did not go off");
});

/** Valid zstd that never produces a byte. */
function randomSkippable(sizeBytes: number): Buffer {
  const frame = Buffer.alloc(sizeBytes);
  frame.writeUInt32LE(0x184d2a50, 0);
  frame.writeUInt32LE(sizeBytes - 8, 4);
  return frame;
}

void t.test("a sender that falls silent in the middle loses its place", async (t) => {
  const request = httpsRequest({
    ...rawTls(),
    agent: false,
    method: "PUT",
    path: segmentPath(0),
    headers: { "content-encoding": "zstd", "x-tidemark-content-bytes": "8192" },
  });
  request.on("error", () => undefined);
  request.write(packed.subarray(0, 100));
  await until(() => replica.openSlots.size === 1);
  await until(() => replica.openSlots.size === 0);
  t.equal(replica.abortedSinkCount, 1);
  request.destroy();
});

void t.test("a sender that goes away in the middle loses its place", async (t) => {
  const request = httpsRequest({
    ...rawTls(),
    agent: false,
    method: "PUT",
    path: segmentPath(0),
    headers: { "content-encoding": "zstd", "x-tidemark-content-bytes": "8192" },
  });
  request.on("error", () => undefined);
  request.write(packed.subarray(0, 100));
  await until(() => replica.openSlots.size === 1);
  request.destroy();
  await until(() => replica.openSlots.size === 0);
  t.equal(replica.completed.size, 0);
});

void t.test("control requests that break a rule are refused by name", async (t) => {
  const vm = `/v1/vms/${header.vmId}`;
  const send = (method: string, path: string, body?: string): Promise<RawAnswer> =>
    raw({ ...rawTls(), method, path }, body);
  const delta = `${vm}/deltas/${header.deltaId}`;
  const changed = (parts: object): string => JSON.stringify({ ...header, ...parts });
  const disks = [{ ...header.disks[0], granularityBytes: 5000 }];
  const huge = JSON.stringify({ ...header, padding: "x".repeat(MIB) });
  const cases: [string, number, string, Promise<RawAnswer>][] = [
    ["an unknown route", 404, "NOT_FOUND", send("GET", "/v1/nothing")],
    ["a path that climbs", 404, "NOT_FOUND", send("GET", "/v1/vms/..%2f..")],
    ["another version", 400, "VERSION_UNKNOWN", send("GET", "/v2/hello")],
    ["no UUID", 400, "INVALID_ARGUMENT", send("GET", "/v1/vms/vm1")],
    ["no JSON", 400, "INVALID_ARGUMENT", send("PUT", delta, "{")],
    ["no object", 400, "INVALID_ARGUMENT", send("PUT", delta, "[1]")],
    ["a body past the limit", 413, "LIMIT_REACHED", send("PUT", delta, huge)],
    ["another format", 400, "VERSION_UNKNOWN", send("PUT", delta, changed({ formatVersion: 2 }))],
    ["a strange granularity", 400, "INVALID_ARGUMENT", send("PUT", delta, changed({ disks }))],
    ["a fraction", 400, "INVALID_ARGUMENT", send("PUT", delta, changed({ attempt: 1.5 }))],
    ["two VMs", 400, "INVALID_ARGUMENT", send("PUT", delta, changed({ vmId: header.deltaId }))],
    [
      "a prototype",
      400,
      "INVALID_ARGUMENT",
      send("POST", `${vm}/staging`, '{"__proto__":{"generation":1}}'),
    ],
  ];
  for (const [what, status, code, answer] of cases) {
    t.match(await answer, { status, body: { code, message: /^Cannot .*\.$/ } }, what);
  }
  t.match((await send("GET", "/v2/hello")).body.message, /version 2 .* version 1/);
});

void t.test("a peer that speaks only other versions is refused with both named", async (t) => {
  const { replica: tls } = pki;
  const later = createServer(
    { cert: tls.certificatePem, key: tls.keyPem, ca: tls.authorityPem, requestCert: true },
    (_, response) => {
      const hello = { product: "tidemark", protocolVersions: [2, 3], deltaFormatVersions: [1] };
      response.end(JSON.stringify(hello));
    },
  );
  await new Promise<void>((resolve) => later.listen(0, "127.0.0.1", resolve));
  const replicaUrl = `https://127.0.0.1:${(later.address() as AddressInfo).port}`;
  const endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls: () => pki.primary, lanes });
  await t.rejects(endpoint.status(header.vmId), {
    code: "VERSION_UNKNOWN",
    message: /version 1 and the replica 2, 3/,
  });
  await endpoint.close();
  later.closeAllConnections();
  later.close();
});

void t.test("a port that is taken is said to be", async (t) => {
  await t.rejects(startServer(pki, replica, { port: server.port }), {
    code: "IN_USE",
    message: new RegExp(`127.0.0.1:${server.port}`),
  });
});
