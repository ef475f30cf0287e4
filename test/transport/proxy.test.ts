/** A replica behind a CONNECT proxy: control calls and lanes go through it, TLS stays end to end. */
import t, { type Test } from "tap";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import { openTunnel, parseProxyUrl } from "#lib/transport/proxy-tunnel.js";
import { ConnectProxy } from "../support/connect-proxy.js";
import { HostPair } from "./host-pair.js";
import { generatedSource, newHeader, newLanes } from "./hosts.js";

const { pki, lanes, replicaUrl, server } = await HostPair.start(t as Test);
const proxy = await ConnectProxy.start();
const recipe = { seed: 7, pieceBytes: 65536, pieceCount: 16 };

t.beforeEach(() => {
  proxy.refusal = null;
  proxy.tunnels.length = 0;
  proxy.openings.length = 0;
  proxy.bytes = 0;
});
t.teardown(() => proxy.close());

function through(proxyUrl: string | null): HttpsReplicaEndpoint {
  return new HttpsReplicaEndpoint({ replicaUrl, proxyUrl, tls: () => pki.primary, lanes });
}

void t.test("control calls and segments take the proxy, and arrive whole", async (t) => {
  const header = newHeader(8);
  await using endpoint = through(proxy.url);
  await endpoint.openDelta(header);
  const sources = Array.from({ length: 8 }, (_, index) =>
    generatedSource(header.deltaId, index, { ...recipe, seed: index + 1 }),
  );
  const receipts = await Promise.all(sources.map((source) => endpoint.putSegment(source)));
  t.equal(receipts.length, 8);
  const wireBytes = receipts.reduce((sum, receipt) => sum + receipt.wireBytes, 0);
  t.ok(proxy.bytes > wireBytes, "all of it went through");
  t.ok(proxy.tunnels.length >= 2, "one for control, the others for lanes");
  t.ok(proxy.tunnels.length <= 1 + 4, "and kept: not one for each segment");
  t.same(new Set(proxy.tunnels), new Set([`127.0.0.1:${server.port}`]));
  t.same(
    proxy.openings.map((bytes) => bytes.readUInt16BE(0)),
    proxy.openings.map(() => 0x1603),
    "each begins with a TLS handshake record: the proxy sees no request",
  );
});

void t.test("without a proxy nothing goes there", async (t) => {
  const header = newHeader(1);
  await using endpoint = through(null);
  await endpoint.openDelta(header);
  await endpoint.putSegment(generatedSource(header.deltaId, 0, recipe));
  t.equal(proxy.tunnels.length, 0);
});

void t.test("a proxy that refuses, or is not there, is named; a retry is worth it", async (t) => {
  const header = newHeader(1);
  await using fresh = newLanes(1, 1);
  const tls = () => pki.primary;
  const proxyUrl = proxy.url;
  await using endpoint = new HttpsReplicaEndpoint({ replicaUrl, proxyUrl, tls, lanes: fresh });
  const refused = { code: "UNREACHABLE", retryable: true };
  proxy.refusal = 403;
  await t.rejects(endpoint.openDelta(header), { ...refused, message: /proxy .*status 403\)/ });
  proxy.refusal = null;
  await endpoint.openDelta(header);
  proxy.refusal = 502;
  const source = generatedSource(header.deltaId, 0, recipe);
  await t.rejects(endpoint.putSegment(source), { ...refused, message: /HTTP status 502/ });
  proxy.refusal = null;
  t.equal((await endpoint.putSegment(source)).segmentIndex, 0);
  await using lost = through("http://127.0.0.1:9");
  const message = /proxy http:\/\/127\.0\.0\.1:9 cannot be reached \(ECONNREFUSED\)/;
  await t.rejects(lost.status(header.vmId), { code: "UNREACHABLE", message });
});

void t.test("a proxy that says nothing is given up", async (t) => {
  const silent = await import("node:net").then(({ createServer }) => createServer());
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as { port: number };
  const sockets: { destroy(): unknown }[] = [];
  silent.on("connection", (socket) => sockets.push(socket));
  await t.rejects(openTunnel(new URL(`http://127.0.0.1:${port}`), "a.example", 1, 50), {
    code: "UNREACHABLE",
    message: /ETIMEDOUT/,
  });
  for (const socket of sockets) socket.destroy();
  silent.close();
});

void t.test("what is no address of a proxy is refused", async (t) => {
  for (const text of ["", "proxy:3128", "https://p:1", "http://u:p@p:1", "http://p:1/path"]) {
    t.throws(() => parseProxyUrl(text), { code: "INVALID_ARGUMENT" }, text);
    t.throws(() => through(text), { code: "INVALID_ARGUMENT" }, text);
  }
  t.equal(parseProxyUrl("http://proxy.example:3128").port, "3128");
});
