/** Authenticated peers that send what no client of ours sends. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { connect as tcpConnect } from "node:net";
import { connect as tlsConnect } from "node:tls";
import t, { type Test } from "tap";
import zstd from "zstd-napi";
import { HostPair } from "./host-pair.js";
import { until } from "./hosts.js";

const MIB = 1024 * 1024;
const pair = await HostPair.start(t as Test, {
  limits: { headersTimeoutMs: 1000, idleTimeoutMs: 400, handshakeTimeoutMs: 1000 },
});
pair.outlives(t as Test);
const { server } = pair;

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
  const { vmId, deltaId } = pair.header;
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
    { ...pair.rawTls(), method: "PUT", path, headers },
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
    t.equal(pair.replica.completed.size, 1);
  },
);

const PROBE = "/v1/probe";

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
    [
      "a digest that we do not know",
      400,
      "INVALID_ARGUMENT",
      put(packed, { headers: { "x-tidemark-digest": "md5" } }),
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
    ["a bomb as a probe", 413, "LIMIT_REACHED", put(deep, { path: PROBE })],
    ["a probe without digest", 400, "INVALID_ARGUMENT", put(packed, { path: PROBE, sha256: null })],
    [
      "a probe too large",
      400,
      "INVALID_ARGUMENT",
      put(packed, { path: PROBE, contentBytes: 2 ** 40 }),
    ],
    ["attempt 0", 400, "INVALID_ARGUMENT", put(packed, { path: segmentPath(0, 0) })],
    [
      "a VM that is no UUID",
      400,
      "INVALID_ARGUMENT",
      put(packed, { path: segmentPath(0).replace(pair.header.vmId, "vm1") }),
    ],
  ];
  for (const [what, status, code, answer] of cases) {
    t.match(await answer, { status, body: { code, message: /^Cannot .*\.$/ } }, what);
  }
  t.equal(pair.replica.completed.size, 0);
  t.equal(pair.replica.aborted.length, pair.replica.reserved.length);
  t.equal(pair.replica.openSlots.size, 0);
  t.ok(pair.replica.writtenBytes < MIB, "the bomb did not go off");
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
    ...pair.rawTls(),
    agent: false,
    method: "PUT",
    path: segmentPath(0),
    headers: { "content-encoding": "zstd", "x-tidemark-content-bytes": "8192" },
  });
  request.on("error", () => undefined);
  request.write(packed.subarray(0, 100));
  await until(() => pair.replica.openSlots.size === 1);
  await until(() => pair.replica.openSlots.size === 0);
  t.equal(pair.replica.abortedSinkCount, 1);
  request.destroy();
});

void t.test("a sender that goes away in the middle loses its place", async (t) => {
  const request = httpsRequest({
    ...pair.rawTls(),
    agent: false,
    method: "PUT",
    path: segmentPath(0),
    headers: { "content-encoding": "zstd", "x-tidemark-content-bytes": "8192" },
  });
  request.on("error", () => undefined);
  request.write(packed.subarray(0, 100));
  await until(() => pair.replica.openSlots.size === 1);
  request.destroy();
  await until(() => pair.replica.openSlots.size === 0);
  t.equal(pair.replica.completed.size, 0);
});

void t.test("control requests that break a rule are refused by name", async (t) => {
  const { header } = pair;
  const vm = `/v1/vms/${header.vmId}`;
  const send = (method: string, path: string, body?: string): Promise<RawAnswer> =>
    raw({ ...pair.rawTls(), method, path }, body);
  const delta = `${vm}/deltas/${header.deltaId}`;
  const changed = (parts: object): string => JSON.stringify({ ...header, ...parts });
  const disks = [{ ...header.disks[0], granularityBytes: 5000 }];
  const huge = JSON.stringify({ ...header, padding: "x".repeat(MIB) });
  const cases: [string, number, string, Promise<RawAnswer>][] = [
    ["an unknown route", 404, "NOT_FOUND", send("GET", "/v1/nothing")],
    ["a path that climbs", 404, "NOT_FOUND", send("GET", "/v1/vms/..%2f..")],
    ["another version", 400, "VERSION_UNKNOWN", send("GET", "/v2/vms/x/points")],
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
  const later = await send("GET", "/v2/vms/x/points");
  t.match(later.body.message, /version 2 .* version 1/);
  t.equal((await send("GET", "/v2/hello")).status, 200, "hello is for every version");
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
    const socket = tlsConnect(pair.rawTls(), () => socket.write(garbage));
    socket.on("error", () => undefined);
    socket.resume();
    await once(socket, "close");
  }
  t.pass("the server goes on, see afterEach");
});

void t.test("who connects and says nothing is disconnected", async () => {
  const silent = tcpConnect(server.port, "127.0.0.1");
  const silentInTls = tlsConnect(pair.rawTls());
  silent.resume();
  silentInTls.resume();
  silent.on("error", () => undefined);
  silentInTls.on("error", () => undefined);
  await Promise.all([once(silent, "close"), once(silentInTls, "close")]);
});
