/** Who gets past the handshake, on either side, and what the other one is told. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer as createPlainServer } from "node:http";
import { createServer, request as httpsRequest } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import type { TlsMaterial } from "#lib/model/peer.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { readFile } from "node:fs/promises";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import t, { type Test } from "tap";
import { HostPair } from "./host-pair.js";
import { connectTo, generatedSource, startServer, until } from "./hosts.js";

const warnings: string[] = [];
const pair = await HostPair.start(t as Test, {
  onWarning: (message) => warnings.push(message),
  limits: { headersTimeoutMs: 1000, idleTimeoutMs: 400, handshakeTimeoutMs: 1000 },
});
pair.outlives(t as Test);
const { pki, lanes, server } = pair;

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
  await t.rejects(stranger.status(pair.header.vmId), {
    code: "UNAUTHENTICATED",
    retryable: false,
    message: /does not accept this host's certificate/,
    hint: /certificate/,
  });
  await t.rejects(stranger.openDelta(pair.header), { code: "UNAUTHENTICATED" });
  await stranger.close();
}

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
  const { ca, host, port } = pair.rawTls();
  const request = httpsRequest({ ca, host, port, path: "/v1/hello", agent: false }, () => {
    t.fail("there is an answer");
  });
  request.end();
  const [error] = (await once(request, "error")) as [NodeJS.ErrnoException];
  t.match(error.code, /CERTIFICATE_REQUIRED|ECONNRESET/);
});

void t.test("TLS 1.2 does not get past the handshake", async (t) => {
  const socket = tlsConnect({ ...pair.rawTls(), maxVersion: "TLSv1.2" });
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
  await t.rejects(endpoint.status(pair.header.vmId), { code: "UNAUTHENTICATED", message: reason });
  await endpoint.close();
  impostor.close();
  t.equal(requestCount, 0);
}

void t.test(
  "a replica that is down, or none at all, is UNREACHABLE and worth a retry",
  async (t) => {
    const closed = await startServer(pki, pair.replica);
    const endpoint = connectTo(closed, pki, lanes);
    await endpoint.openDelta(pair.header);
    await closed.close();
    const expected = { code: "UNREACHABLE", retryable: true };
    await t.rejects(endpoint.status(pair.header.vmId), expected);
    const small = { seed: 1, pieceBytes: 4096, pieceCount: 1 };
    await t.rejects(endpoint.putSegment(generatedSource(pair.header.deltaId, 0, small)), expected);
    await endpoint.close();

    const plain = createPlainServer((_, response) => response.end("hello"));
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
    const replicaUrl = `https://127.0.0.1:${(plain.address() as AddressInfo).port}`;
    const stranger = new HttpsReplicaEndpoint({ replicaUrl, tls: () => pki.primary, lanes });
    await t.rejects(stranger.status(pair.header.vmId), { ...expected, message: /TLS/ });
    await stranger.close();
    plain.close();
  },
);

void t.test("addresses that cannot be are refused at once", async (t) => {
  const make = (replicaUrl: string) =>
    new HttpsReplicaEndpoint({ replicaUrl, tls: () => pki.primary, lanes });
  for (const url of ["", "http://a:1", "https://a:1/x", "https://u:p@a:1", "a:1"]) {
    t.throws(() => make(url), { code: "INVALID_ARGUMENT" }, url);
  }
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
  await t.rejects(endpoint.status(pair.header.vmId), {
    code: "VERSION_UNKNOWN",
    message: /version 1 and the replica 2, 3/,
  });
  await endpoint.close();
  later.closeAllConnections();
  later.close();
});

void t.test("a port that is taken is said to be", async (t) => {
  await t.rejects(startServer(pki, pair.replica, { port: server.port }), {
    code: "IN_USE",
    message: new RegExp(`127.0.0.1:${server.port}`),
  });
});

void t.test("a replica that acknowledges other bytes than were sent is not believed", async (t) => {
  const { replica: tls } = pki;
  const receipt = { segmentIndex: 0, sha256: "0".repeat(64), dataBytes: 1, zeroBytes: 0 };
  const liar = createServer(
    { cert: tls.certificatePem, key: tls.keyPem, ca: tls.authorityPem, requestCert: true },
    (message, response) => {
      const isHello = message.url === "/v1/hello";
      const isDelta = /deltas\/[^/]+$/.test(message.url ?? "");
      const hello = { product: "tidemark", protocolVersions: [1], deltaFormatVersions: [1] };
      message.resume();
      message.on("end", () => {
        const answer = isHello ? hello : isDelta ? [] : { ...receipt, wireBytes: 1 };
        response.end(JSON.stringify(answer));
      });
    },
  );
  await new Promise<void>((resolve) => liar.listen(0, "127.0.0.1", resolve));
  const replicaUrl = `https://127.0.0.1:${(liar.address() as AddressInfo).port}`;
  const endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls: () => pki.primary, lanes });
  t.same(await endpoint.openDelta(pair.header), []);
  const source = generatedSource(pair.header.deltaId, 0, {
    seed: 1,
    pieceBytes: 4096,
    pieceCount: 1,
  });
  await t.rejects(endpoint.putSegment(source), { code: "CORRUPT", retryable: true });
  await endpoint.close();
  liar.closeAllConnections();
  liar.close();
});
