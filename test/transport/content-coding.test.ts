/** Segments that travel as they are, where the peer takes that. */
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import type { Compression } from "#lib/model/relationship-settings.js";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import { sha256Of } from "./sha256-of.js";
import { HostPair } from "./host-pair.js";
import { generatedSource, newHeader } from "./hosts.js";

const { pki, lanes, replicaUrl } = await HostPair.start(t as Test);

const MIB = 1024 * 1024;

function endpointWith(compression: () => Compression, url = replicaUrl): HttpsReplicaEndpoint {
  return new HttpsReplicaEndpoint({ replicaUrl: url, tls: () => pki.primary, lanes, compression });
}

void t.test("off: what is read is what travels and what arrives", async (t) => {
  await using endpoint = endpointWith(() => "off");
  const header = newHeader(4);
  await endpoint.openDelta(header);
  for (const [index, compressible] of [true, false].entries()) {
    const recipe = { seed: 3, pieceBytes: MIB, pieceCount: 6, compressible };
    const receipt = await endpoint.putSegment(generatedSource(header.deltaId, index, recipe));
    t.equal(receipt.wireBytes, 6 * MIB);
    t.equal(receipt.sha256, sha256Of(recipe));
  }
});

void t.test("the compression may be another one for each segment", async (t) => {
  let compression: Compression = "off";
  await using endpoint = endpointWith(() => compression);
  const header = newHeader(3);
  await endpoint.openDelta(header);
  const recipe = { seed: 3, pieceBytes: MIB, pieceCount: 2, compressible: true };
  const sizes: number[] = [];
  for (const [index, each] of (["off", 1, "off"] as const).entries()) {
    compression = each;
    const receipt = await endpoint.putSegment(generatedSource(header.deltaId, index, recipe));
    t.equal(receipt.sha256, sha256Of(recipe));
    sizes.push(receipt.wireBytes);
  }
  t.equal(sizes[0], 2 * MIB);
  t.ok((sizes[1] ?? 0) < 1.9 * MIB);
  t.equal(sizes[2], 2 * MIB);
});

void t.test("adaptive: incompressible data soon travels as it is", async (t) => {
  await using endpoint = endpointWith(() => "adaptive");
  const header = newHeader(40);
  await endpoint.openDelta(header);
  const recipe = { seed: 9, pieceBytes: MIB / 4, pieceCount: 1 };
  const exact: boolean[] = [];
  for (let index = 0; index < 40; index += 1) {
    const receipt = await endpoint.putSegment(generatedSource(header.deltaId, index, recipe));
    exact.push(receipt.wireBytes === MIB / 4);
  }
  t.notOk(exact[0], "not known yet");
  t.ok(exact.slice(16).filter((is) => !is).length <= 2, "but for a probe");
});

async function headersAtOldReplica(t: Test, compression: Compression): Promise<string[]> {
  const codings: string[] = [];
  const { certificatePem: cert, keyPem: key, authorityPem: ca } = pki.replica;
  const old = createServer({ cert, key, ca, requestCert: true }, (message, response) => {
    const { method, url } = message;
    if (method === "PUT" && url?.includes("/segments/") === true) {
      codings.push(message.headers["content-encoding"] ?? "none");
    }
    const hello = { product: "tidemark", protocolVersions: [1], deltaFormatVersions: [1] };
    message.resume().on("end", () => {
      response.end(JSON.stringify(url?.endsWith("/hello") === true ? hello : []));
    });
  });
  await new Promise<void>((resolve) => old.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    old.closeAllConnections();
    old.close();
  });
  const url = `https://127.0.0.1:${(old.address() as AddressInfo).port}`;
  await using endpoint = endpointWith(() => compression, url);
  const header = newHeader();
  await endpoint.openDelta(header);
  const recipe = { seed: 1, pieceBytes: 4096, pieceCount: 1 };
  // It answers no receipt; what counts is how the segment came.
  await t.rejects(endpoint.putSegment(generatedSource(header.deltaId, 0, recipe)));
  return codings;
}

void t.test("a replica of the version before gets zstd, whatever is set", async (t) => {
  t.same(await headersAtOldReplica(t, "off"), ["zstd"]);
  t.same(await headersAtOldReplica(t, 5), ["zstd"]);
});
